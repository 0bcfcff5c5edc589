"""Assembly of text from the bytes of tokens, in examples and by properties."""

import codecs
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_tw.support.text import TextAssembler


def assemble(pieces: list[bytes], stop: tuple[str, ...] = ()) -> str:
    assembler = TextAssembler(stop)
    return "".join([*(assembler.feed(piece) for piece in pieces), assembler.finish()])


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(at, len(data)) for at in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 40), max_size=8)


@settings(max_examples=100)
@given(st.text("aäß日🙂e\u0301 ", max_size=12), CUTS)
def test_text_is_the_same_however_its_bytes_are_cut(text: str, cuts: list[int]) -> None:
    assert assemble(cut(text.encode(), cuts)) == text


@settings(max_examples=100)
@given(st.binary(max_size=20), CUTS)
def test_invalid_bytes_are_replaced_independently_of_the_cuts(data: bytes, cuts: list[int]) -> None:
    # Half a character at the end is none.
    whole = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    assert assemble(cut(data, cuts)) == whole


@settings(max_examples=100)
@given(st.text("abc", max_size=20), CUTS, st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
@example("abc", [], ["abc", "b"])
@example("abc", [1, 2], ["abc", "b"])
def test_stop_strings_cut_at_the_same_place_however_the_bytes_are_cut(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    # The first that is complete ends the text; of those that are complete at once, the longest.
    expected = text
    for end in range(len(text) + 1):
        complete = [one for one in stop if text[:end].endswith(one)]
        if complete:
            expected = text[: end - max(map(len, complete))]
            break
    assert assemble(cut(text.encode(), cuts), tuple(stop)) == expected


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    assembler = TextAssembler(("END", "\n\n"))
    assert assembler.feed(b"one E") == "one "
    assert assembler.feed(b"N") == ""
    assert assembler.feed(b"ough\n") == "ENough"
    assert not assembler.stopped
    assert assembler.feed(b"\nmore") == ""
    assert assembler.stopped
    assert assembler.feed(b"ignored") == ""
    assert assembler.finish() == ""


def test_held_back_text_is_returned_at_the_end() -> None:
    assembler = TextAssembler(("END",))
    assert assembler.feed(b"the EN") == "the "
    assert assembler.finish() == "EN"


@pytest.mark.parametrize("character", ["ä", "日", "🙂"])
def test_no_part_of_a_character_comes_out(character: str) -> None:
    assembler = TextAssembler()
    *beginning, last = [bytes([byte]) for byte in character.encode()]
    assert [assembler.feed(byte) for byte in beginning] == [""] * len(beginning)
    assert assembler.feed(last) == character


def test_half_a_character_at_the_end_is_left_out() -> None:
    assert assemble([b"a\xf0\x9f"]) == "a"
    assert assemble([b"a\xf0\x9f", b"b\xf0"]) == "a\ufffdb"


def test_an_empty_stop_string_stops_nothing() -> None:
    assert assemble([b"some", b"thing"], ("",)) == "something"
