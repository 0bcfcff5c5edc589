"""The benchmark of descriptions measures replies with thinking, text and a call."""

import pytest

from benchmarks.families import measure, reply
from ollama_tw.output.stream_parser import Call, StreamParser, Thinking
from ollama_tw.templates.reply_description import describe
from tests.helpers.reference_data import vectors

TEMPLATES = {each["name"]: each["source"] for each in vectors("chat_templates")}
TOOLS = [{"type": "function", "function": {"name": "write_file", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize("name", ["Kimi-K3", "Qwen3.5-4B", "MiniMax-M3"])
def test_the_reply_has_thinking_text_and_the_beginning_of_a_call(name: str) -> None:
    description = describe(TEMPLATES[name])
    parser = StreamParser(description, TOOLS)
    events = parser.feed(reply(description))
    assert isinstance(events[0], Thinking)
    assert not any(isinstance(event, Call) for event in events)
    # The last argument is complete; its call is not.
    assert "write_file" in "".join(event.text for event in parser.finish() if not isinstance(event, Call))


def test_a_line_is_printed_for_each_template(capsys: pytest.CaptureFixture[str]) -> None:
    measure([("Qwen3.5-4B", TEMPLATES["Qwen3.5-4B"])])
    assert "Qwen3.5-4B" in capsys.readouterr().out
