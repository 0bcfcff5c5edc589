"""Parser of Modelfiles."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.library.modelfile.parser import Instruction, ModelfileError, parse_modelfile

INVALID = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", '
    '"parser", "parameter", "message", or "requires"'
)


def parse(text: str | bytes) -> list[tuple[str, str]]:
    return [(command.name, command.value) for command in parse_modelfile(text)]


def value(text: str) -> str:
    """Return the value of the one instruction after FROM."""
    (first, (_, found)) = parse(f"FROM x\n{text}")
    assert first == ("model", "x")
    return found


def fault(text: str | bytes) -> str:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    return str(caught.value)


def test_every_instruction() -> None:
    text = (
        "# a comment\n"
        "FROM ./m.gguf\n"
        "  \t\n"
        "  adapter a.gguf\n"
        "Draft d.gguf\n"
        "TEMPLATE {{ .Prompt }}\n"
        "system You are kind. # still text\n"
        "RENDERER qwen3\n"
        "PARSER qwen3\n"
        "PARAMETER temperature 0.5\n"
        "PARAMETER stop <|a|>\n"
        "MESSAGE user hi\n"
        "message assistant hello: you\n"
        "LICENSE MIT\n"
        "REQUIRES 0.14.0"
    )
    assert parse(text) == [
        ("model", "./m.gguf"),
        ("adapter", "a.gguf"),
        ("draft", "d.gguf"),
        ("template", "{{ .Prompt }}"),
        ("system", "You are kind. # still text"),
        ("renderer", "qwen3"),
        ("parser", "qwen3"),
        ("temperature", "0.5"),
        ("stop", "<|a|>"),
        ("message", "user: hi"),
        ("message", "assistant: hello: you"),
        ("license", "MIT"),
        ("requires", "0.14.0"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('SYSTEM "a b"', "a b"),
        ('SYSTEM """\nA\n"""', "\nA\n"),
        ('SYSTEM """a"""', "a"),
        ('SYSTEM """"""', ""),
        ('SYSTEM ""', ""),
        ("SYSTEM \n", ""),
        ("SYSTEM ", ""),
        ('SYSTEM "a" b\nmore\nand "more"\n', 'a" b\nmore\nand "more'),
        ('SYSTEM "He said "hi""', 'He said "hi"'),
        ('SYSTEM "a" and "b"', 'a" and "b'),
        ("SYSTEM 'a'", "'a'"),
        ('PARAMETER stop "### User: "', "### User: "),
        ("PARAMETER stop ### User: \t", "### User:"),
        ("SYSTEM \t  a\tb", "a\tb"),
        ('SYSTEM "\na\r\n\n  "', "\na\r\n\n  "),
        ('SYSTEM """a"\n"b"""  \n', 'a"\n"b'),
        ('SYSTEM """"a" b"""', '"a" b'),
        ('SYSTEM "\n\n"', "\n\n"),
        (r'SYSTEM "a\n\"b"', r"a\n\"b"),
        ("MESSAGE user ", "user: "),
        ("SYSTEM \U0001f468\u200d\U0001f469", "\U0001f468\U0001f469"),
        ("SYSTEM a\u00a0b\u00ad\u3000c\x07\x0bd", "abcd"),
        ("SYSTEM é∂ 漢字", "é∂ 漢字"),
    ],
)
def test_values(text: str, expected: str) -> None:
    assert value(text) == expected


def test_no_comment_after_a_value() -> None:
    assert parse("FROM llama3 # base") == [("model", "llama3 # base")]


def test_a_parameter_named_like_an_instruction_is_that_instruction() -> None:
    assert parse("PARAMETER model x\nPARAMETER system hi\nPARAMETER from y") == [
        ("model", "x"),
        ("system", "hi"),
        ("from", "y"),
    ]


def test_two_blanks_after_parameter_give_an_empty_key() -> None:
    assert parse("FROM x\nPARAMETER  temperature 1") == [("model", "x"), ("", "temperature 1")]


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        ("", "no FROM line", None),
        ("# FROM x", "no FROM line", None),
        ("SYSTEM hi", "no FROM line", None),
        ("FROM\n", f"(line 2): {INVALID}", 2),
        ("FROM\r\n", f"(line 2): {INVALID}", 2),
        ("\n\nFOO x\n", f"(line 3): {INVALID}", 3),
        ("\r\n\r\nFOO x\n", f"(line 5): {INVALID}", 5),
        ("FROM x\nFR0M y\n", f"(line 2): {INVALID}", 2),
        ('SYSTEM """a\nb"""\nFOO x', f"(line 3): {INVALID}", 3),
        ("1FROM x", f"(line 1): {INVALID}", 1),
        ("FROM", "unexpected EOF", None),
        ("FROM x\nPARAMETER", "unexpected EOF", None),
        ("FROM x\nPARAMETER stop", "unexpected EOF", None),
        ("FROM x\nPARAMETER temperature\n", "unexpected EOF: temperature", None),
        ("FROM x\nPARAMETER top-k 1\n", "unexpected EOF: top", None),
        ("FROM x\nMESSAGE user\n", "unexpected EOF: user", None),
        ("FROM x\nMESSAGE us3r hi\n", "unexpected EOF: us", None),
        (
            "FROM x\nMESSAGE User hi",
            '(line 2): message role must be one of "system", "user", or "assistant"',
            2,
        ),
        (
            "FROM x\nMESSAGE  user hi",
            '(line 2): message role must be one of "system", "user", or "assistant"',
            2,
        ),
        ('FROM x\nSYSTEM "', "unexpected EOF", None),
        ('FROM x\nSYSTEM "a\nb\n', "unexpected EOF", None),
        ('FROM x\nSYSTEM """a""\n"', "unexpected EOF", None),
        ('FROM x\nSYSTEM """"', "unexpected EOF", None),
    ],
)
def test_errors(text: str, expected: str, line: int | None) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    assert str(caught.value) == expected
    assert caught.value.line == line


@pytest.mark.parametrize(
    "data",
    [
        "FROM é".encode(),
        b"\xef\xbb\xbfFROM \xc3\xa9",
        b"\xff\xfeF\0R\0O\0M\0 \0\xe9\0",
        b"\xfe\xff\0F\0R\0O\0M\0 \0\xe9",
    ],
)
def test_encodings(data: bytes) -> None:
    assert parse(data) == [("model", "é")]


def test_invalid_utf_8_is_replaced() -> None:
    assert parse(b"FROM a\xffb") == [("model", "a\ufffdb")]


def test_a_value_of_many_lines() -> None:
    text = "line\n" * 200_000
    assert value(f'LICENSE """{text}"""') == text


TEXTS = st.text(st.sampled_from('FROM system parameter message user stop\n\r\t "#:_é\u200d\x00')) | st.text()


@settings(max_examples=100)
@given(TEXTS)
def test_any_text_parses_or_fails(text: str) -> None:
    try:
        commands = parse_modelfile(f"FROM x\n{text}")
    except ModelfileError:
        return
    assert commands[0] == Instruction("model", "x")


@settings(max_examples=50)
@given(st.binary())
def test_any_bytes_parse_or_fail(data: bytes) -> None:
    try:
        parse_modelfile(data)
    except ModelfileError:
        pass
