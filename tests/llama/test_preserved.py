"""Preserved special tokens in vocabularies like those of real families, with random weights."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest

from ollama_tw.interfaces import DoneReason, Job, Sampling
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.testing.contract import Consumer
from tests.llama.conftest import load
from tests.llama.tiny_models import write_llama

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Family:
    """Special tokens of a family, and a reply: text, and control tokens, in order.

    ``shown`` are tokens that come out as text without a request.
    """

    controls: tuple[str, ...]
    reply: tuple[str, ...]
    shown: tuple[str, ...] = ()
    remarked: tuple[str, ...] = ()
    """Control tokens of the file that llama.cpp makes user-defined ones."""


FAMILIES = {
    "mistral": Family(
        ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "[INST]"),
        (
            "[THINK]",
            "naïve 🙂",
            "[/THINK]",
            "Sí",
            "[TOOL_CALLS]",
            "get",
            "[CALL_ID]",
            "a1",
            "[ARGS]",
            '{"a":1}',
        ),
    ),
    "lfm2": Family(
        ("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_list_start|>"),
        ("<|tool_call_start|>", '[get(a="ü")]', "<|tool_call_end|>", "Fertig"),
    ),
    "cohere": Family(
        ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_ACTION|>", "<|END_ACTION|>", "<|USER_TOKEN|>"),
        ("<|START_THINKING|>", "hm", "<|END_THINKING|>", "<|START_ACTION|>", "[1]", "<|END_ACTION|>"),
    ),
    "kimi": Family(
        ("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
        ("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "f:0", "<|tool_call_argument_begin|>", "{}"),
    ),
    "deepseek": Family(
        ("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁calls▁end｜>"),
        (
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "f",
            "<｜tool▁sep｜>",
            "{}",
            "<｜tool▁calls▁end｜>",
        ),
    ),
    "granite": Family(("<|tool_call|>", "<|start_of_role|>"), ("<|tool_call|>", "[{}]")),
    "apertus": Family(
        ("<|tools_prefix|>", "<|tools_suffix|>", "<|inner_prefix|>", "<|inner_suffix|>"),
        ("<|inner_prefix|>", "é", "<|inner_suffix|>", "<|tools_prefix|>", "[{}]", "<|tools_suffix|>"),
    ),
    "gigachat": Family(("<|function_call|>", "<|role_sep|>"), ("<|function_call|>", "{}")),
    "solar": Family(
        ("<|think|>", "<|content|>", "<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>"),
        ("<|think|>", "x", "<|tool_call:begin|>", "<|tool_call:name|>", "f", "<|tool_call:args|>", "{}"),
    ),
    "gpt-oss": Family(
        ("<|return|>", "<|call|>"),
        ("<|channel|>", "analysis", "<|message|>", "ä", "<|end|>", "<|start|>", "assistant"),
        remarked=("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"),
    ),
    "gemma4": Family(
        ("<|turn>", "<|think|>"),
        ("<|channel>", "thought\n", "<channel|>", "<|tool_call>", 'call:f{a:"', '<|"|>', "}", "<tool_call|>"),
        shown=("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def runner(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRunner]:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    kinds = dict.fromkeys(family.controls + family.remarked, gguf.TokenType.CONTROL)
    write_llama(path, kinds | dict.fromkeys(family.shown, gguf.TokenType.USER_DEFINED))
    runner = load(str(path), context_length=1024)
    yield runner
    runner.close()


def job(runner: LlamaRunner, family: Family, **fields: Any) -> Job:
    """Return a job whose output is the family's reply, in which the special tokens are single tokens."""
    special = (*family.controls, *family.shown, *family.remarked)
    texts = "".join(family.reply).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    bias = tuple((runner.tokenize(text, add_special=False)[0], 500.0) for text in special)
    whole = Job("w01 w02 ", GREEDY, grammar=f'root ::= "{texts}"', logit_bias=bias)
    return Job(**(vars(whole) | fields))


def silenced(family: Family, preserved: tuple[str, ...]) -> str:
    return "".join(text for text in family.reply if text not in family.controls or text in preserved)


def test_preserved_tokens_come_out_and_all_others_are_silent(runner: LlamaRunner, family: Family) -> None:
    for preserved in ((), family.controls, family.controls[:1], ("", "no such token", family.controls[-1])):
        taken = Consumer(runner.generate(job(runner, family, preserved=preserved))).ended()
        assert taken.text == silenced(family, preserved)
        assert taken.reason is DoneReason.STOP


def test_several_tokens_of_one_text_are_preserved(runner: LlamaRunner, family: Family) -> None:
    preserved = (f"  {' text '.join(family.controls)}\n",)
    assert Consumer(runner.generate(job(runner, family, preserved=preserved))).ended().text == "".join(
        family.reply
    )


def test_every_special_token_is_one_token_of_the_output(runner: LlamaRunner, family: Family) -> None:
    taken = Consumer(runner.generate(job(runner, family, preserved=family.controls, logprobs=2))).ended()
    special = (*family.controls, *family.shown, *family.remarked)
    data = [one.chosen.data for piece in taken.pieces for one in piece.logprobs]
    assert b"".join(data).decode() == "".join(family.reply)
    expected = [text for text in family.reply if text in special]
    assert [one.decode() for one in data if len(one) > 1 and one.decode() in special] == expected


def test_a_stop_string_of_a_preserved_token_cuts_before_it(runner: LlamaRunner, family: Family) -> None:
    stop = next(
        text for text in reversed(family.reply) if text in (*family.controls, *family.remarked, *family.shown)
    )
    whole = "".join(family.reply)
    taken = Consumer(runner.generate(job(runner, family, preserved=family.controls, stop=(stop,)))).ended()
    assert taken.text == whole[: whole.index(stop)]
    assert taken.reason is DoneReason.STOP


def test_half_a_character_at_the_end_is_left_out(runner: LlamaRunner, family: Family) -> None:
    limits = range(1, 20)
    whole = "".join(family.reply)
    for limit in limits:
        asked = job(runner, family, preserved=family.controls, max_tokens=limit)
        taken = Consumer(runner.generate(asked)).ended()
        assert whole.startswith(taken.text)
        assert "\N{REPLACEMENT CHARACTER}" not in taken.text


def reply_of(runner: LlamaRunner, text: str, **fields: Any) -> Consumer:
    """Return the taken pieces of a job whose output is ``text``."""
    quoted = text.replace("\n", "\\n")
    job = Job("w01 w02 ", GREEDY, grammar=f'root ::= "{quoted}"', **fields)
    return Consumer(runner.generate(job)).ended()


def test_the_end_of_a_turn_ends_the_reply_whatever_the_vocabulary_has_for_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.gguf"
    write_llama(path, {"<|role_end|>": gguf.TokenType.CONTROL})
    with closing(load(str(path), context_length=1024)) as runner:
        for end in ("<|role_end|>", "</assistant>"):
            taken = reply_of(runner, f"ja{end}\n<user>", ends=(end,))
            assert taken.text == "ja"
            assert taken.reason is DoneReason.STOP
            assert not any(piece.stop_string for piece in taken.pieces)


def test_a_text_like_the_token_that_ends_the_turn_is_text(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_llama(path)
    with closing(load(str(path), context_length=1024)) as runner:
        # The grammar spells the token with ordinary ones.
        assert reply_of(runner, "ja </s> ja", ends=("</s>",)).text == "ja </s> ja"
