"""Records of a run: content, thinking, calls and figures, in one record or as a stream."""

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
from zope.interface import implementer

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.inference.completion import CompletionTask, Prompt, complete
from ollama_tw.inference.records import ChatWriter, GenerateWriter
from ollama_tw.interfaces import (
    Choice,
    DoneReason,
    Embedding,
    IRunner,
    Job,
    LoadPlan,
    Piece,
    PromptTooLong,
    RunnerError,
    Sampling,
    ThinkingBudget,
    TokenLogprob,
    Usage,
)
from ollama_tw.output.description import CallLayout, Description, Pair
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.tool_choice import ToolChoice
from ollama_tw.testing.fake import FakeRunner, words
from tests.grammar.checker import matches

USAGE = Usage(prompt_tokens=7, cached_tokens=3, prompt_duration=20, output_tokens=2, output_duration=30)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
THINK = Description(Pair("<think>", "</think>"))
HERMES = Description(calls=CallLayout(call=Pair("<tool_call>", "</tool_call>")))


@implementer(IRunner)
class ScriptedRunner:
    """Yields the next script for each job, and records the jobs."""

    size = size_gpu = 0
    context_length = 64
    slots = 1
    metadata: ClassVar[dict[str, str]] = {}
    bos_text = eos_text = ""
    adds_bos = False

    def __init__(
        self, *scripts: Sequence[str | Exception | Piece], done: DoneReason = DoneReason.STOP
    ) -> None:
        self._scripts = list(scripts)
        self._done = done
        self.jobs: list[Job] = []

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode()

    def generate(self, job: Job) -> Iterator[Piece]:
        self.jobs.append(job)
        for step in self._scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step if isinstance(step, Piece) else Piece(step)
        yield Piece("", done=self._done, usage=USAGE)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        raise AssertionError("nobody asked for embeddings")

    def close(self) -> None:
        pass


def task(**changes: Any) -> CompletionTask:
    values: dict[str, Any] = {
        "writer": ChatWriter("m"),
        "build_prompt": lambda runner: Prompt("PROMPT "),
        "sampling": Sampling(),
        "stop": (),
        "limit": -1,
        "started": 0,
        "load_duration": 5,
    }
    return CompletionTask(**{**values, **changes})


def streamed(one: CompletionTask, runner: ScriptedRunner) -> list[dict[str, Any]]:
    records: list[Any] = []
    assert complete(one, runner, records.append, threading.Event()) is None
    return [decoded(record) for record in records]


def whole(one: CompletionTask, runner: ScriptedRunner | FakeRunner) -> dict[str, Any]:
    return decoded(complete(one, runner, None, threading.Event()))


def decoded(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gojson.encode(record))
    del found["created_at"]
    found.pop("total_duration", None)
    return found


def test_a_stream_has_a_record_a_piece_and_a_final_one_with_the_figures() -> None:
    assert streamed(task(), ScriptedRunner(["Hel", "lo"])) == [
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {
            "model": "m",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "load_duration": 5,
            "prompt_eval_count": 7,
            "prompt_cached_count": 3,
            "prompt_eval_duration": 20,
            "eval_count": 2,
            "eval_duration": 30,
        },
    ]


def test_a_single_record_has_everything() -> None:
    record = whole(task(writer=GenerateWriter("m"), with_context=True), ScriptedRunner(["Hel", "lo"]))
    assert record["response"] == "Hello"
    assert record["done"] is True
    assert bytes(record["context"]).decode() == "PROMPT Hello"


@pytest.mark.parametrize(("usage", "expected"), [((9, 6), (9, 6)), ((9, 0), (9, 0)), ((0, 0), (None, None))])
def test_drafted_tokens_are_reported_where_there_were_any(
    usage: tuple[int, int], expected: tuple[int | None, int | None]
) -> None:
    class Drafting(ScriptedRunner):
        def generate(self, job: Job) -> Iterator[Piece]:
            yield Piece("x", done=DoneReason.STOP, usage=Usage(7, 3, 20, 1, 5, *usage))

    for writer in (GenerateWriter("m"), ChatWriter("m")):
        record = whole(task(writer=writer), Drafting())
        assert (record.get("draft_count"), record.get("draft_accepted")) == expected


def test_a_request_limits_its_drafts() -> None:
    jobs = []

    class Listening(ScriptedRunner):
        def generate(self, job: Job) -> Iterator[Piece]:
            jobs.append(job)
            return super().generate(job)

    whole(task(drafts=3), Listening(["x"]))
    assert jobs[0].drafts == 3


def test_a_reply_of_one_token_has_a_duration_to_divide_by() -> None:
    class Brief(ScriptedRunner):
        def generate(self, job: Job) -> Iterator[Piece]:
            yield Piece("x", done=DoneReason.STOP, usage=Usage(7, 3, 20, 1, 0))

    assert whole(task(), Brief())["eval_duration"] == 1


def test_what_was_cut_from_the_prompt_is_told() -> None:
    cut = Prompt("ignored", tokens=(1, 2, 3), truncated=9)
    runner = ScriptedRunner(["x"])
    assert whole(task(build_prompt=lambda _: cut), runner)["prompt_truncated"] == 9
    assert runner.jobs[0].prompt == (1, 2, 3)


def test_thinking_and_content_come_apart() -> None:
    records = streamed(
        task(description=THINK, thinks=True), ScriptedRunner(["<thi", "nk>hm", "m</think>", "\n\nyes"])
    )
    assert [record["message"] for record in records] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "", "thinking": "m"},
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": ""},
    ]


def test_thinking_that_the_prompt_opened() -> None:
    opened = task(description=THINK, build_prompt=lambda _: Prompt("<|assistant|><think>\n"))
    message = whole(opened, ScriptedRunner(["hm</think>yes"]))["message"]
    assert message == {"role": "assistant", "content": "yes", "thinking": "hm"}


def test_a_call_keeps_its_place_and_the_order_of_its_arguments() -> None:
    said = ['Look.\n<tool_call>{"name": "weather", "arguments": {"z": 1, ', '"a": 2}}</tool_call>', "\n"]
    messages = [
        record["message"]
        for record in streamed(task(description=HERMES, tools=[WEATHER]), ScriptedRunner(said))
    ]
    assert "".join(message["content"] for message in messages) == "Look."
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    assert len(calls) == 1
    assert calls[0]["function"] == {"index": 0, "name": "weather", "arguments": {"z": 1, "a": 2}}
    assert list(calls[0]["function"]["arguments"]) == ["z", "a"]
    assert calls[0]["id"].startswith("call_")


NUMBER = "root ::= [0-9]+"


def test_a_format_holds_from_where_the_thinking_ends() -> None:
    runner = ScriptedRunner(["<think>hm</think>\n", "42"])
    record = whole(task(description=THINK, thinks=True, build_grammar=lambda: NUMBER), runner)
    assert record["message"] == {"role": "assistant", "content": "42", "thinking": "hm"}
    (job,) = runner.jobs
    assert matches(job.grammar, "<think>any text</think>\n42")
    # A model that does not think answers at once.
    assert matches(job.grammar, "42")
    assert not matches(job.grammar, "<think>any text</think>\nfree")


def test_a_format_holds_from_where_the_thinking_ends_that_the_prompt_opened() -> None:
    runner = ScriptedRunner(["hm</think>42"])
    opened = task(
        description=THINK,
        thinks=True,
        build_grammar=lambda: NUMBER,
        build_prompt=lambda _: Prompt("<think>\n"),
    )
    assert whole(opened, runner)["message"] == {"role": "assistant", "content": "42", "thinking": "hm"}
    assert matches(runner.jobs[0].grammar, "any text</think>\n42")
    assert not matches(runner.jobs[0].grammar, "42")


@pytest.mark.parametrize("description", [HERMES, THINK])
def test_a_format_holds_from_the_start_without_thinking(description: Description) -> None:
    runner = ScriptedRunner(["42"])
    whole(task(description=description, build_grammar=lambda: NUMBER), runner)
    assert runner.jobs[0].grammar == NUMBER


def test_the_marks_of_a_reply_are_preserved() -> None:
    runner = ScriptedRunner(["x"])
    whole(task(description=THINK, thinks=True), runner)
    assert set(runner.jobs[0].preserved) == {"<think>", "</think>"}


def test_a_text_that_ends_the_turn_ends_the_reply_without_a_stop_string() -> None:
    plan = LoadPlan("/model.gguf", context_length=4096)
    runner = FakeRunner(plan, words("Hello there.</assistant>\n<user>And now?"))
    record = whole(task(description=BY_NAME["laguna"]), runner)
    assert record["message"]["content"] == "Hello there."
    assert record["done_reason"] == "stop"


CALL = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
BOTH = Description(
    Pair("<think>", "</think>"), calls=CallLayout(call=Pair("<tool_call>\n", "\n</tool_call>"))
)


def test_a_reply_that_may_call_is_held_from_its_first_call_on() -> None:
    runner = ScriptedRunner(["Yes."])
    whole(task(description=BOTH, thinks=True, tools=[WEATHER]), runner)
    (job,) = runner.jobs
    assert job.grammar == ""
    assert job.lazy_grammar is not None
    assert (job.lazy_grammar.triggers, job.lazy_grammar.opening) == (("<tool_call>",), "<think>")
    assert job.lazy_grammar.after == "</think>"
    assert matches(job.lazy_grammar.grammar, CALL)
    assert "<tool_call>" in job.preserved


def test_a_reply_that_must_call_thinks_and_calls_in_the_familys_layout() -> None:
    runner = ScriptedRunner([f"<think>hm</think>{CALL}"])
    choice = ToolChoice(("weather",))
    record = whole(task(description=BOTH, thinks=True, tools=[WEATHER], choice=choice), runner)
    assert record["message"]["thinking"] == "hm"
    assert record["message"]["tool_calls"][0]["function"]["name"] == "weather"
    (job,) = runner.jobs
    assert job.lazy_grammar is None
    assert matches(job.grammar, f"<think>hm</think>{CALL}")
    assert matches(job.grammar, CALL)
    assert not matches(job.grammar, "Yes.")


def test_without_tools_nothing_is_held() -> None:
    runner = ScriptedRunner(["Yes."])
    whole(task(description=BOTH), runner)
    assert (runner.jobs[0].grammar, runner.jobs[0].lazy_grammar) == ("", None)


@pytest.mark.parametrize(
    ("description", "answer"),
    [
        (Description(content=Pair("<|START_TEXT|>", "<|END_TEXT|>")), "<|START_TEXT|>42<|END_TEXT|>"),
        (
            BY_NAME["harmony"],
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>42",
        ),
    ],
)
def test_a_format_stands_between_the_marks_of_the_answer(description: Description, answer: str) -> None:
    runner = ScriptedRunner([answer])
    record = whole(task(description=description, thinks=True, build_grammar=lambda: NUMBER), runner)
    assert record["message"]["content"] == "42"
    assert matches(runner.jobs[0].grammar, answer)
    assert not matches(runner.jobs[0].grammar, answer.replace("42", "x"))


@pytest.mark.parametrize(("end", "opening"), [("", "<think>"), ("<think>\n", "")])
def test_the_thinking_is_limited(end: str, opening: str) -> None:
    runner = ScriptedRunner(["x"])
    whole(
        task(description=THINK, thinks=True, think_budget=9, build_prompt=lambda _: Prompt("PROMPT " + end)),
        runner,
    )
    assert runner.jobs[0].thinking == ThinkingBudget(9, opening, "</think>", "</think>")
    runner = ScriptedRunner(["x"])
    whole(task(description=HERMES, think_budget=9), runner)
    assert runner.jobs[0].thinking is None


def test_log_probabilities_come_with_their_tokens_also_where_the_text_is_held_back() -> None:
    first = TokenLogprob(Choice(b"<", -0.5), (Choice(b"<", -0.5), Choice(b"A", -1.0)))
    second = TokenLogprob(Choice(b"B", -0.25))
    pieces = [Piece("<", logprobs=(first,)), Piece("B", logprobs=(second,))]
    records = streamed(task(description=THINK, thinks=True), ScriptedRunner(pieces))
    assert [(record["message"]["content"], record.get("logprobs")) for record in records] == [
        (
            "",
            [
                {
                    "token": "<",
                    "logprob": -0.5,
                    "bytes": [60],
                    "top_logprobs": [
                        {"token": "<", "logprob": -0.5, "bytes": [60]},
                        {"token": "A", "logprob": -1.0, "bytes": [65]},
                    ],
                }
            ],
        ),
        ("<B", [{"token": "B", "logprob": -0.25, "bytes": [66]}]),
        ("", None),
    ]


def test_only_the_prompt_is_wanted() -> None:
    runner = ScriptedRunner()
    assert whole(task(debug_only=True), runner) == {
        "model": "m",
        "message": {"role": "", "content": ""},
        "done": False,
        "_debug_info": {"rendered_template": "PROMPT "},
    }
    assert runner.jobs == []


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (
            PromptTooLong(70, 64),
            400,
            (
                "the prompt has 70 tokens and the context of this model holds 64: "
                "shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH"
            ),
        ),
        (RunnerError("no memory"), 500, "an error was encountered while running the model: no memory"),
    ],
)
def test_failures_of_the_engine_are_told(failure: Exception, status: int, text: str) -> None:
    with pytest.raises(OllamaError) as raised:
        whole(task(), ScriptedRunner(["half", failure]))
    assert (raised.value.status, raised.value.message) == (status, text)


def test_a_cancelled_run_gives_no_answer() -> None:
    with pytest.raises(Cancelled):
        whole(task(), ScriptedRunner(["half"], done=DoneReason.CANCELLED))


def test_a_run_that_ends_without_a_last_piece_is_a_failure() -> None:
    class Unfinished(ScriptedRunner):
        def generate(self, job: Job) -> Iterator[Piece]:
            yield Piece("half")

    with pytest.raises(OllamaError) as caught:
        whole(task(), Unfinished())
    assert (caught.value.status, caught.value.message) == (
        500,
        "an error was encountered while running the model: no done reason was given",
    )


def test_nothing_is_run_for_somebody_who_has_gone() -> None:
    gone = threading.Event()
    gone.set()
    runner = ScriptedRunner()
    with pytest.raises(Cancelled):
        complete(task(), runner, None, gone)
    assert runner.jobs == []
