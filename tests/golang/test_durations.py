import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.golang.durations import FOREVER, format_duration, parse_duration, parse_keep_alive


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("0s", 0),
        ("5s", 5_000_000_000),
        ("+5s", 5_000_000_000),
        ("-5s", -5_000_000_000),
        ("300ms", 300_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("1.004s", 1_004_000_000),
        ("1h30m", 5_400_000_000_000),
        ("-1m", -60_000_000_000),
        ("10.5s4m", 250_500_000_000),
        ("-2m3.4s", -123_400_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("9007199254740993ns", 9007199254740993),
        ("0.100000000000000000000h", 360_000_000_000),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("0.830103483285477580700h", 2_988_372_539_827),
        ("9223372036854775807ns", 9223372036854775807),
        ("-9223372036854775808ns", -9223372036854775808),
        ("0000000000000000000000001s", 1_000_000_000),
        ("0." + "0" * 5000 + "1s", 0),
    ],
)
def test_parses_as_go_does(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("+", 'time: invalid duration "+"'),
        (".", 'time: invalid duration "."'),
        ("-.", 'time: invalid duration "-."'),
        (".s", 'time: invalid duration ".s"'),
        ("x", 'time: invalid duration "x"'),
        ("--1s", 'time: invalid duration "--1s"'),
        (" 1s", 'time: invalid duration " 1s"'),
        ("1s ", 'time: unknown unit "s " in duration "1s "'),
        ("10", 'time: missing unit in duration "10"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("1.", 'time: missing unit in duration "1."'),
        ("1s5", 'time: missing unit in duration "1s5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1S", 'time: unknown unit "S" in duration "1S"'),
        ("1s-2m", 'time: unknown unit "s-" in duration "1s-2m"'),
        ('1"', 'time: unknown unit "\\"" in duration "1\\""'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
        ("\n", 'time: invalid duration "\\x0a"'),
        ("٣s", 'time: invalid duration "\\xd9\\xa3s"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("-9223372036854775809ns", 'time: invalid duration "-9223372036854775809ns"'),
        ("9223372036.854775808s", 'time: invalid duration "9223372036.854775808s"'),
        ("3000000h", 'time: invalid duration "3000000h"'),
        ("9223372036854ms775us808ns", 'time: invalid duration "9223372036854ms775us808ns"'),
    ],
)
def test_errors_have_the_texts_of_go(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole text is compared below
        parse_duration(text)
    assert str(raised.value) == error


def test_thousands_of_digits_overflow() -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        parse_duration("9" * 5000 + "s")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (300_000_000, "300ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (300_000_000_000, "5m0s"),
        (245_001_000_000, "4m5.001s"),
        (3_600_000_000_000, "1h0m0s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (480_000_000_001, "8m0.000000001s"),
        (-1_500_000_000, "-1.5s"),
        (9223372036854775807, "2562047h47m16.854775807s"),
        (-9223372036854775808, "-2562047h47m16.854775808s"),
    ],
)
def test_formats_as_go_does(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**12), 10**12))
@settings(max_examples=100)
def test_what_is_formatted_parses_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text(alphabet="0123456789.+-nuµmsh d", max_size=30))
@settings(max_examples=100)
def test_any_text_is_an_int64_or_a_value_error(text: str) -> None:
    try:
        value = parse_duration(text)
    except ValueError:
        return
    assert -(2**63) <= value < 2**63


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (None, None),
        (0, 0),
        (0.0, 0),
        (42, 42_000_000_000),
        (42.5, 42_500_000_000),
        (0.000_000_001, 1),
        (-1, FOREVER),
        (-3.14, FOREVER),
        (10**30, FOREVER),
        (10**400, FOREVER),
        (1e300, FOREVER),
        (float("inf"), FOREVER),
        ("42m", 2_520_000_000_000),
        ("0", 0),
        ("300ms", 300_000_000),
        ("-1m", FOREVER),
        ("-1", FOREVER),
        ("-1ns", FOREVER),
    ],
)
def test_keep_alive_of_a_request(value: object, nanoseconds: int | None) -> None:
    assert parse_keep_alive(value) == nanoseconds


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (True, "Unsupported type: 'bool'"),
        (False, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({"a": 1}, "Unsupported type: 'map[string]interface {}'"),
        ("10", 'time: missing unit in duration "10"'),
        ("", 'time: invalid duration ""'),
    ],
)
def test_keep_alive_that_is_refused(value: object, error: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole text is compared below
        parse_keep_alive(value)
    assert str(raised.value) == error
