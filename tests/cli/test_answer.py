import io

import pyte
import pytest

from ollama_tw.cli.answer import Answer, Style, Wrapper, summary

TEXT = (
    "The quick brown fox jumps over the lazy dog, and supercalifragilisticexpialidocious words of more than "
    "one line https://example.org/" + "x" * 120 + " follow.\n\nThen a paragraph of some more words."
)


@pytest.mark.parametrize("columns", [40, 57, 80, 120, 200])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_words_stay_whole_on_a_terminal(columns: int, size: int) -> None:
    wrapper = Wrapper(columns)
    screen = pyte.Screen(columns, 40)
    stream = pyte.Stream(screen)
    for at in range(0, len(TEXT), size):
        stream.feed(wrapper.wrapped(TEXT[at : at + size]).replace("\n", "\r\n"))
    lines = [line.rstrip() for line in screen.display]
    # The address alone is longer than a line, and goes on at the beginning of the next one.
    joined = "\n".join(lines).split("https:")[0].split()
    assert joined == TEXT.split("https:")[0].split()
    assert "".join("".join(lines).split()) == "".join(TEXT.split())
    assert max(len(line) for line in lines if "x" * 20 not in line) <= columns - 5


def test_text_is_not_wrapped_in_a_pipe() -> None:
    assert Wrapper(0).wrapped(TEXT) == TEXT


def answered(style: Style, *pieces: tuple[str, str]) -> str:
    stream = io.StringIO()
    answer = Answer(style, stream)
    for thinking, content in pieces:
        answer.add(content, thinking)
    answer.end()
    return stream.getvalue()


def test_thinking_is_framed() -> None:
    pieces = (("Let me ", ""), ("see.", ""), ("", "Four."))
    assert answered(Style(), *pieces) == "Thinking...\nLet me see.\n...done thinking.\n\nFour."


def test_thinking_is_grey_with_colours() -> None:
    assert answered(Style(plain=False), ("Hm.\n", ""), ("", "Four.")) == (
        "\x1b[38;5;245m\x1b[1mThinking...\n\x1b[0m\x1b[38;5;245mHm.\n"
        "\x1b[38;5;245m\x1b[1m...done thinking.\n\n\x1b[0mFour."
    )


def test_the_colour_is_restored_where_the_answer_ends_in_its_thinking() -> None:
    assert answered(Style(plain=False), ("Hm", "")).endswith("Hm\n\x1b[0m")


def test_hidden_thinking() -> None:
    assert answered(Style(hides_thinking=True), ("Hm.", ""), ("", "Four.")) == "Four."


def test_a_model_does_not_control_the_terminal() -> None:
    assert answered(Style(is_terminal=True), ("", "a\x1b[2Jb\x07\tc\n")) == "a[2Jb\tc\n"


def test_summary() -> None:
    record = {
        "total_duration": 1_500_000_000,
        "load_duration": 0,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 500_000_000,
        "eval_count": 7,
        "eval_duration": 2_000_000_000,
    }
    assert summary(record) == (
        "total duration:       1.5s\n"
        "prompt eval count:    10 token(s)\n"
        "prompt eval duration: 500ms\n"
        "prompt eval rate:     20.00 tokens/s\n"
        "eval count:           7 token(s)\n"
        "eval duration:        2s\n"
        "eval rate:            3.50 tokens/s\n"
    )
