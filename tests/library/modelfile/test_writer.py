"""Formatting of instructions, checked by parsing."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.library.modelfile.parser import Instruction, ModelfileError, parse_modelfile
from ollama_tw.library.modelfile.writer import format_modelfile


def written(*commands: tuple[str, str]) -> str:
    return format_modelfile(Instruction(name, value) for name, value in commands)


def test_names_of_instructions() -> None:
    assert written(
        ("model", "x"),
        ("system", "be kind"),
        ("temperature", "0.5"),
        ("message", "user: hi: you"),
        ("message", "robot: hi"),
        ("from", "y"),
        ("", "z"),
    ) == (
        "FROM x\n"
        "SYSTEM be kind\n"
        "PARAMETER temperature 0.5\n"
        "MESSAGE user hi: you\n"
        "PARAMETER message robot: hi\n"
        "PARAMETER from y\n"
        "PARAMETER  z\n"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b", "a b"),
        ("", ""),
        ('say "hi"', 'say "hi"'),
        (" a", '" a"'),
        ("a\n", '"a\n"'),
        ('a "b"\n', '"""a "b"\n"""'),
        ("\ta", '"\ta"'),
        ("a\r", '"a\r"'),
        ('"a"', '""""a""""'),
        ('"""', '"""""""""'),
        ('x\na"""\nb', None),
        ('"a" b', '""""a" b"""'),
    ],
)
def test_quotation_marks(value: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ModelfileError, match="the value of SYSTEM cannot be written in a Modelfile"):
            written(("system", value))
    else:
        assert written(("system", value)) == f"SYSTEM {expected}\n"


@pytest.mark.parametrize(("name", "value"), [("top-k", "1"), ("système", "x"), ("system", "a\u200db")])
def test_unrepresentable_instructions_are_errors(name: str, value: str) -> None:
    with pytest.raises(ModelfileError):
        written((name, value))


def printable(char: str) -> bool:
    return char in " \t\r\n" or unicodedata.category(char)[0] in "LMNPS"


VALUES = st.text(st.sampled_from('ab "\n\r\t:é') | st.characters().filter(printable), max_size=12)
INSTRUCTIONS = st.builds(
    Instruction,
    st.sampled_from(("model", "system", "template", "license", "requires", "stop", "A_1", "", "from")),
    VALUES,
) | st.builds(
    lambda role, text: Instruction("message", f"{role}: {text}"),
    st.sampled_from(("user", "system", "assistant")),
    VALUES,
)


@settings(max_examples=100)
@given(st.lists(INSTRUCTIONS, max_size=5))
def test_round_trip(commands: list[Instruction]) -> None:
    commands = [Instruction("model", "x"), *commands]
    try:
        text = format_modelfile(commands)
    except ModelfileError:
        assert any('"""' in command.value for command in commands)
        return
    assert list(parse_modelfile(text)) == commands
