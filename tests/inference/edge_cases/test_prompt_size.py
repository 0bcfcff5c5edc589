"""Prompts far beyond the context are refused before they are tokenized."""

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.inference.prompt_size import cancellable
from ollama_tw.interfaces import IRunner
from tests.helpers.application import Application

CONTEXT = 2048


def refusal(tokens: int) -> str:
    return (
        f"the prompt has at least {tokens} tokens, which exceeds the available context size of {CONTEXT}"
        " tokens; shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH"
    )


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("generate", {"prompt": "x" * 1_000_000}, 3906),
        ("generate", {"prompt": "x", "system": "x" * 1_000_000}, 3906),
        ("generate", {"prompt": "x", "context": [1] * 50_000}, 50_000),
        ("chat", {"messages": [{"role": "user", "content": "x" * 1_000_000}]}, 3906),
        ("chat", {"messages": [{"role": "user", "content": "x"}] * 50_000}, 50_000),
        (
            "chat",
            {
                "messages": [
                    *[{"role": "user", "content": "x" * 400_000}] * 25,
                    {"role": "user", "content": "x"},
                ]
            },
            39_062,
        ),
    ],
)
def test_prompts_that_cannot_fit(app: Application, path: str, body: dict[str, Any], tokens: int) -> None:
    reply = app.post(f"/api/{path}", {"model": "m", "stream": False, **body})
    assert (reply.status, reply.json["error"]) == (400, refusal(tokens))


def test_a_long_history_is_still_cut(app: Application) -> None:
    messages = [{"role": "user", "content": f"{number} " * 100} for number in range(500)]
    reply = app.post("/api/chat", {"model": "m", "stream": False, "messages": messages})
    assert reply.status == 200
    assert reply.json["prompt_truncated"] > 0


class _Runner:
    context_length = 7

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return [len(text), int(add_special)]


def test_no_more_tokens_are_counted_after_a_disconnect() -> None:
    cancel = threading.Event()
    runner = cancellable(cast(IRunner, _Runner()), cancel)
    assert runner.context_length == 7
    assert runner.tokenize("abc", add_special=False) == [3, 0]
    cancel.set()
    with pytest.raises(Cancelled):
        runner.tokenize("abc")


def test_the_error_has_the_status_of_a_bad_request() -> None:
    from ollama_tw.inference.prompt_size import require_fitting

    require_fitting("x" * 256 * 4, 4)
    with pytest.raises(OllamaError) as caught:
        require_fitting("x" * 256 * 5, 4)
    assert caught.value.status == 400
