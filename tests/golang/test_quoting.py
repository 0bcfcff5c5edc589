"""String literals in Go's syntax. The expected texts are what Go 1.26 prints."""

import pytest

from ollama_tw.golang.quoting import quote, quote_bytewise


@pytest.mark.parametrize(
    ("text", "quoted", "ascii_only"),
    [
        (
            "a\\\t\x01é\u200d\U000e0001\u00a0",
            r'"a\\\t\x01é\u200d\U000e0001\u00a0"',
            r'"a\\\t\x01\u00e9\u200d\U000e0001\u00a0"',
        ),
        ("\x7f\udc80\udcff", r'"\x7f\x80\xff"', r'"\x7f\x80\xff"'),
        ("\"'`", r'''"\"'`"''', r'''"\"'`"'''),
        (
            "\u0085\u2028\ufffd\a\b\f\v\r\n",
            r'"\u0085\u2028' + "\ufffd" + r'\a\b\f\v\r\n"',
            r'"\u0085\u2028\ufffd\a\b\f\v\r\n"',
        ),
    ],
)
def test_strings(text: str, quoted: str, ascii_only: str) -> None:
    assert quote(text) == quoted
    assert quote(text, only_ascii=True) == ascii_only


def test_characters() -> None:
    assert quote("'", "'") == r"'\''"
    assert quote('"', "'") == "'\"'"
    assert quote("é", "'", only_ascii=True) == r"'\u00e9'"


def test_errors_of_the_package_time_quote_bytes() -> None:
    assert quote_bytewise('\n"é\\\x7f') == '"\\x0a\\"\\xc3\\xa9\\\\\x7f"'
