"""Bundles of pieces, with a clock of the test."""

import threading
from collections.abc import Iterator

import pytest
from ollama_tw_ray.bundles import MOST_PIECES, Bundler

from ollama_tw.interfaces import Choice, DoneReason, Piece, TokenLogprob, Usage

TIMEOUT = 30
USAGE = Usage(1, 0, 0, 3, 0)
END = Piece("", done=DoneReason.STOP, usage=USAGE, stop_string="!")


def test_the_first_piece_is_sent_at_once_and_others_together() -> None:
    sent: list[Piece] = []
    pieces = [Piece(str(number)) for number in range(4 * MOST_PIECES)]
    # A clock that stands still: only full bundles and the end send.
    Bundler(sent.append, clock=lambda: 0.0).run(iter([*pieces, END]))
    assert sent[0] == pieces[0]
    assert "".join(piece.text for piece in sent) == "".join(piece.text for piece in pieces)
    assert [piece.done for piece in sent] == [None] * (len(sent) - 1) + [DoneReason.STOP]
    assert (sent[-1].usage, sent[-1].stop_string) == (USAGE, "!")
    # A bundle has all that waits: at least as many pieces as are to be sent at once.
    assert 2 <= len(sent) <= 6


def test_a_piece_does_not_wait_for_the_next_one() -> None:
    sent: list[Piece] = []
    arrived = threading.Event()

    def send(piece: Piece) -> None:
        sent.append(piece)
        if len(sent) == 2:
            arrived.set()

    def slow() -> Iterator[Piece]:
        yield Piece("a")
        yield Piece("b")
        assert arrived.wait(TIMEOUT)
        yield END

    Bundler(send).run(slow())
    assert [piece.text for piece in sent] == ["a", "b", ""]


def test_log_probabilities_are_joined() -> None:
    one, two = (TokenLogprob(Choice(data, -1.0)) for data in (b"b", b"c"))
    sent: list[Piece] = []
    Bundler(sent.append, clock=lambda: 0.0).run(
        iter([Piece("a"), Piece("b", (one,)), Piece("c", (two,)), END])
    )
    assert [logprob for piece in sent for logprob in piece.logprobs] == [one, two]


def test_an_error_comes_after_what_was_before_it() -> None:
    sent: list[Piece] = []

    def fails() -> Iterator[Piece]:
        yield Piece("a")
        yield Piece("b")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Bundler(sent.append, clock=lambda: 0.0).run(fails())
    assert "".join(piece.text for piece in sent) == "ab"


def test_an_error_of_the_consumer_ends_the_run() -> None:
    taken: list[str] = []
    failed = threading.Event()

    def send(piece: Piece) -> None:
        taken.append(piece.text)
        if len(taken) == 2:
            failed.set()
            raise ConnectionError("gone")

    def endless() -> Iterator[Piece]:
        yield Piece("a")
        yield Piece("b")
        assert failed.wait(TIMEOUT)
        while True:
            yield Piece("c")

    with pytest.raises(ConnectionError, match="gone"):
        Bundler(send).run(endless())
