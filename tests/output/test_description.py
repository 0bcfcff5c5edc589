import pytest

from ollama_tw.output.description import HOLE, CallLayout, Description, Pair, Shape
from ollama_tw.output.known_layouts import BY_NAME


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("cohere", {"<|START_THINKING|>", "<|END_TEXT|>", "<|START_ACTION|>"}),
        ("ministral", {"[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"}),
        ("deepseek3", {"<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "</think>"}),
        ("gemma4", {"<|channel>", "<channel|>", '<|"|>'}),
        ("harmony", {"<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|call|>"}),
    ],
)
def test_a_familys_control_tokens_are_preserved(name: str, needed: set[str]) -> None:
    assert needed <= set(BY_NAME[name].preserved)


def test_a_mark_within_the_reply_does_not_end_it() -> None:
    calls = CallLayout(section=Pair("<sep>call:", ""))
    assert Description(calls=calls, ends=("<sep>", "</turn>")).stops == ("</turn>",)
    assert BY_NAME["laguna"].stops == ("</assistant>",)


def test_texts_that_vary_are_not_preserved() -> None:
    calls = CallLayout(call=Pair(f'<call index="{HOLE}">', "<end>"), shape=Shape.NAME_FIRST)
    assert set(Description(calls=calls).preserved) == {"<end>"}


def test_calls_lead_the_reply_where_nothing_marks_them() -> None:
    assert CallLayout().leads
    assert not CallLayout(call=Pair("<tool_call>\n", "")).leads
    assert not CallLayout(section=Pair("functools", "")).leads
    assert CallLayout(section=Pair("functools", ""), call=Pair("<c>", "")).opening == "functools"
