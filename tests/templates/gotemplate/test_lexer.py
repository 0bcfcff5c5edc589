import pytest

from ollama_tw.templates.gotemplate.lexer import Kind, tokenize


def kinds(source: str) -> list[Kind]:
    return [token.kind for token in tokenize(source)]


def test_an_action_is_cut_into_tokens_with_their_positions() -> None:
    assert [(token.kind, token.text, token.position) for token in tokenize('a{{ $x.Y := "q" }}')] == [
        (Kind.TEXT, "a", 0),
        (Kind.LEFT_DELIMITER, "{{", 1),
        (Kind.SPACE, " ", 3),
        (Kind.VARIABLE, "$x", 4),
        (Kind.FIELD, ".Y", 6),
        (Kind.SPACE, " ", 8),
        (Kind.DECLARE, ":=", 9),
        (Kind.SPACE, " ", 11),
        (Kind.STRING, '"q"', 12),
        (Kind.SPACE, " ", 15),
        (Kind.RIGHT_DELIMITER, "}}", 16),
        (Kind.END_OF_FILE, "", 18),
    ]


def test_trim_markers_remove_blanks_and_newlines_from_the_text_beside_them() -> None:
    tokens = tokenize("a \r\n\t{{- 1 -}} \n b")
    assert [token.text for token in tokens if token.kind is Kind.TEXT] == ["a", "b"]


def test_a_minus_without_a_blank_belongs_to_a_number() -> None:
    tokens = tokenize("a {{-3}}")
    assert [(token.kind, token.text) for token in tokens] == [
        (Kind.TEXT, "a "),
        (Kind.LEFT_DELIMITER, "{{"),
        (Kind.NUMBER, "-3"),
        (Kind.RIGHT_DELIMITER, "}}"),
        (Kind.END_OF_FILE, ""),
    ]


def test_a_comment_leaves_no_token() -> None:
    assert kinds("a{{/* }} */}}b") == [Kind.TEXT, Kind.TEXT, Kind.END_OF_FILE]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{", "unclosed action"),
        ("{{/* x", "unclosed comment"),
        ("{{/* x */ }}", "comment ends before closing delimiter"),
        ('{{ "a\n" }}', "unterminated quoted string"),
        ("{{ `a }}", "unterminated raw quoted string"),
        ("{{ 'a }}", "unterminated character constant"),
        ("{{ (1 }}", "unclosed left paren"),
        ("{{ 1) }}", "unexpected right paren"),
        ("{{ 1x }}", 'bad number syntax: "1x"'),
        ("{{ a: }}", "expected :="),
        ("{{ .a-b }}", "bad character U+002D '-'"),
        ("{{ \x01 }}", "unrecognized character in action: U+0001"),
    ],
)
def test_an_error_is_the_last_token(source: str, message: str) -> None:
    last = tokenize(source)[-1]
    assert (last.kind, last.text) == (Kind.ERROR, message)
