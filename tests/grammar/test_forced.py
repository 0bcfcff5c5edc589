"""Text that a grammar forces, and white space that is guessed."""

import pytest

from ollama_tw.grammar import forced as forced_text
from ollama_tw.grammar import schema_to_gbnf
from ollama_tw.grammar.forced import ForcedReader, ForcedText
from ollama_tw.grammar.reader import read_grammar

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "age": {"type": "integer"},
        "kind": {"enum": ["cat", "camel"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


def grammar(text: str) -> ForcedText:
    return ForcedText(read_grammar(text))


def after(forced: ForcedText, output: str, *, guess: bool = True) -> str:
    reader = ForcedReader(forced)
    reader.feed(output.encode())
    return reader.text(guess=guess)


@pytest.mark.parametrize(
    ("rules", "output", "expected"),
    [
        ('root ::= "yes"', "", "yes"),
        ('root ::= "yes"', "ye", "s"),
        ('root ::= "yes"', "yes", ""),
        ('root ::= "yes" | "yesterday"', "", "yes"),
        ('root ::= "yes" | "yesterday"', "yest", "erday"),
        ('root ::= "a" [0-9] "b" other\nother ::= "c"+ "d"', "a", ""),
        ('root ::= "a" [0-9] "b" other\nother ::= "c"+ "d"', "a7", "bc"),
        ('root ::= "x"? "y"', "", ""),
        ('root ::= "ab"{3} [a-z]', "", "ababab"),
        ('root ::= [x] "é" "日本"', "x", "é日本"),
        ('root ::= .* "end"', "", ""),
    ],
)
def test_the_only_continuation(rules: str, output: str, expected: str) -> None:
    assert after(grammar(rules), output) == expected


def test_nothing_is_forced_after_what_the_grammar_does_not_allow() -> None:
    assert after(grammar('root ::= "yes"'), "no") == ""


def test_nothing_is_forced_within_a_character() -> None:
    reader = ForcedReader(grammar('root ::= "é!" [a-z]'))
    reader.feed("é".encode()[:1])
    assert reader.text() == ""
    reader.feed("é".encode()[1:])
    assert reader.text() == "!"


def test_keys_and_the_white_space_between_them() -> None:
    forced = grammar(schema_to_gbnf(PERSON))
    assert after(forced, '{"name": "Ada"') == ', "age":'
    assert after(forced, '{"name": "Ada", "age": 36') == ""
    assert after(forced, '{"name": "Ada", "age": 36,') == ' "kind": "ca'
    assert after(forced, '{"name": "Ada", "age": 36, "kind": "cam') == 'el"}'


def test_the_white_space_is_that_which_was_written_before() -> None:
    forced = grammar(schema_to_gbnf(PERSON))
    assert after(forced, '{\n\t"name":"Ada",\n\t"age"') == ":"
    assert after(forced, '{\n\t"name":"Ada",\n\t"age":36,') == '\n\t"kind":"ca'
    # Another output with the same grammar begins with it.
    assert after(forced, "") == '{\n\t"name":"'


def test_without_a_guess_the_text_ends_before_white_space() -> None:
    forced = grammar(schema_to_gbnf(PERSON))
    assert after(forced, '{"name": "Ada"', guess=False) == ","
    assert after(forced, '{"name": "Ada", "', guess=False) == 'age":'
    assert after(forced, '{"name": "Ada",', guess=False) == ""


def test_commas_in_a_text_are_no_sign_of_white_space() -> None:
    forced = grammar(schema_to_gbnf(PERSON))
    assert after(forced, '{"name": "a,b,c", "age":7,') == ' "kind": "ca'


def test_white_space_that_has_begun_may_go_on() -> None:
    assert after(grammar(schema_to_gbnf(PERSON)), '{"name": "Ada",\n') == ""


def test_a_long_output_reaches_few_places() -> None:
    forced = grammar('root ::= "\\"" [^"]* "\\"" "end"')
    reader = ForcedReader(forced)
    reader.feed(b'"' + b"lorem ipsum " * 10_000 + b'"')
    assert reader.text() == "end"
    assert len(forced._places) < 20


def test_what_is_forced_does_not_depend_on_other_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"name": "Ada", "age": 36, "kind": "camel"}'
    rules = schema_to_gbnf(PERSON)
    expected = [after(grammar(rules), text[:end], guess=False) for end in range(len(text))]
    monkeypatch.setattr(forced_text, "_MOST_MOVES", 7)
    forced = grammar(rules)
    assert [after(forced, text[:end], guess=False) for end in range(len(text))] == expected


def test_a_grammar_with_too_many_ways_forces_nothing() -> None:
    rules = "root ::= (" + " | ".join(["[a-z]"] * 100) + ') "end"'
    assert after(grammar(rules), "a") == ""
