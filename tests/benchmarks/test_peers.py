"""The program that measures servers behind one, with two of them."""

import pytest

from benchmarks.peers import main


def test_chats_outlive_a_death_and_a_drain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--peers", "2", "--lanes", "1", "--turns", "3", "--tokens", "8"]) == 0
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()[2:]
    ]
    assert [row[0] for row in rows] == [
        *("1, without a front", "1", "2"),
        *("2, one is killed", "1", "2, after its return", "2, one drains", "1", "2, after its return"),
    ]
    for name, replies, complete, broken, lost, *_ in rows:
        assert int(complete) + int(broken) == int(replies) > 0
        assert lost == "0"
        # The chat on the server that was killed was in the middle of a reply, if not just before its end.
        assert int(broken) <= ("killed" in name)
