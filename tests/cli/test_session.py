"""Features of the interactive session beyond Ollama's, on a pseudo-terminal with a server of set answers."""

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ollama_tw.cli.chats import Chats
from tests.cli.conftest import Open, runner
from tests.cli.conversing import CTRL_C, CTRL_D, answered, at_prompt, say
from tests.helpers import PATIENCE
from tests.helpers.chat_server import ChatServer, chat_server

Serve = Callable[..., ChatServer]
TABLE = ("# Title\n\nSome **bo", "ld** text\n\n|a|b|\n|-", "|-|\n|1|2|\n")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server with given answers."""
    with ExitStack() as servers:
        yield lambda *replies, **arguments: servers.enter_context(chat_server(*replies, **arguments))


def test_markdown_is_rendered_on_a_terminal_only(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(TABLE, TABLE, TABLE, TABLE)
    rendered = open_terminal("run", "m", "hi", OLLAMA_HOST=server.address)
    assert rendered.wait() == 0
    assert rendered.lines[:7] == ["Title", "", "Some bold text", "", " a  b", " ────", " 1  2"]
    for command in (
        open_terminal("run", "--plain", "m", "hi", OLLAMA_HOST=server.address),
        open_terminal("run", "m", "hi", OLLAMA_HOST=server.address, term="dumb"),
    ):
        assert command.wait() == 0
        assert command.lines[:3] == ["# Title", "", "Some **bold** text"]
    piped = runner(tmp_path, server.address)("run", "m", "hi")
    assert piped.out == "".join(TABLE) + "\n\n"


def test_the_status_line_and_tokens(open_terminal: Open, serve: Serve) -> None:
    server = serve(["one"], ["two"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "/tokens", "No complete answer yet.")
    say(session, "hi", "one")
    session.wait_for("m  11.0 tokens/s  context: 41 of 4096 tokens (1%)")
    say(
        session,
        "/tokens",
        "prompt    30 token(s)\nanswer    11 token(s)\ncontext   41 of 4096 tokens (1%)",
    )
    narrow = open_terminal("run", "m", OLLAMA_HOST=server.address, columns=38)
    at_prompt(narrow)
    say(narrow, "hi", "two")
    narrow.wait_for("m  41 of 4096 tokens (1%)")


def test_the_context_of_a_model_that_shares_its_load(open_terminal: Open, serve: Serve) -> None:
    server = serve(["one"], ["two"])
    session = open_terminal("run", "saved", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "hi", "one")
    session.wait_for("saved  11.0 tokens/s  context: 41 of 4096 tokens (1%)")
    say(session, "/load other", "Loading model 'other'")
    say(session, "hi", "two")
    session.wait_for("other  11.0 tokens/s  context: 41 tokens")


def test_regenerate_replaces_the_answer(open_terminal: Open, serve: Serve) -> None:
    server = serve(["first"], ["second"], ["third"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "/regenerate", "No message yet.")
    say(session, "hi", "first")
    say(session, "/regenerate", "second")
    say(session, "more", "third")
    assert [body["messages"] for body in server.bodies][1] == [{"role": "user", "content": "hi"}]
    contents = [message["content"] for message in server.bodies[2]["messages"]]
    assert contents == ["hi", "second", "more"]


def test_regenerate_and_edit_take_a_message_that_was_refused(open_terminal: Open, serve: Serve) -> None:
    refused = [{"error": "overloaded"}]
    server = serve(["first"], refused, ["second"], refused, ["third"], refused)
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "hi", "first")
    say(session, "more", "error: overloaded")
    say(session, "/regenerate", "second")
    assert [message["content"] for message in server.bodies[2]["messages"]] == ["hi", "first", "more"]
    say(session, "last", "error: overloaded")
    session.type("/edit\r")
    session.wait_for(">>> last", 2)
    session.type(" one\r")
    answered(session, "third")
    contents = [message["content"] for message in server.bodies[4]["messages"]]
    assert contents == ["hi", "first", "more", "second", "last one"]
    say(session, "again", "error: overloaded")
    say(session, "/clear", "Cleared session context")
    say(session, "/regenerate", "No message yet.")


def test_the_messages_of_a_model_are_exported(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(["first"], messages=[{"role": "user", "content": "before"}])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    session.wait_for(">>> before")
    at_prompt(session)
    say(session, "/load other", "Loading model 'other'")
    say(session, "hi", "first")
    say(session, "/export chat.json", "Wrote 'chat.json'")
    exported = json.loads((tmp_path / "chat.json").read_text())["messages"]
    assert [message["content"] for message in exported] == ["before", "hi", "first"]


def test_edit_replaces_the_last_message(open_terminal: Open, serve: Serve) -> None:
    server = serve(["first"], ["second"], ["third"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "one two", "first")
    session.type("/edit\r")
    session.wait_for(">>> one two", 2)
    session.type(" three\r")
    answered(session, "second")
    assert [message["content"] for message in server.bodies[1]["messages"]] == ["one two three"]
    # An edit that is given up changes nothing.
    session.type("/edit\r")
    session.wait_for(">>> one two three", 2)
    session.type(CTRL_C)
    at_prompt(session)
    say(session, "next", "third")
    contents = [message["content"] for message in server.bodies[2]["messages"]]
    assert contents == ["one two three", "second", "next"]


def test_export_and_copy(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve([{"thinking": "hm"}, "an **answer**"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address, DISPLAY="", WAYLAND_DISPLAY="")
    at_prompt(session)
    say(session, "/copy", "No answer yet.")
    say(session, "hi", "an answer")
    say(session, "/copy", "Copied the answer.")
    assert f"\x1b]52;c;{base64.b64encode(b'an **answer**').decode()}\x07" in session.output
    say(session, "/export", "Usage:\n  /export <file.md or file.json>")
    say(session, "/export out/x.md", "error: no such file or directory: out/x.md")
    say(session, "/export chat.md", "Wrote 'chat.md'")
    say(session, "/export chat.json", "Wrote 'chat.json'")
    assert "## User\n\nhi\n\n## Assistant\n" in (tmp_path / "chat.md").read_text()
    assert json.loads((tmp_path / "chat.json").read_text()) == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "an **answer**", "thinking": "hm"},
        ],
    }


def test_thinking_is_folded_and_shown(open_terminal: Open, serve: Serve) -> None:
    reply = [{"thinking": "one two\n"}, {"thinking": "three"}, "answer"]
    server = serve(reply, capabilities=["completion", "thinking"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "/set fold", "Set 'fold' mode.")
    say(session, "hi", " s, 3 words (/thinking shows them)\n\nanswer")
    assert "...done thinking." not in session.output
    say(session, "/thinking", "one two\nthree")


def test_sessions_are_kept_and_go_on(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(["first"], ["second"], ["third"], ["fourth"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "/set system Be brief.", "Set system message.")
    say(session, "the first question", "first")
    session.type(CTRL_D)
    assert session.wait() == 0
    kept = next((tmp_path / ".ollama/chats").iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    other = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(other)
    say(other, "another question", "second")
    other.type(CTRL_D)
    assert other.wait() == 0
    ollama = runner(tmp_path, server.address)
    lines = ollama("chats").out.splitlines()
    assert lines[0].split() == ["ID", "MODEL", "MESSAGES", "MODIFIED", "TITLE"]
    titles = [line.split("    ")[-2].strip() for line in lines[1:]]
    assert titles == ["another question", "the first question"]
    newest, oldest = (json.loads(line) for line in ollama("chats", "--json").out.splitlines())
    assert (newest["title"], newest["messages"], oldest["messages"]) == ("another question", 2, 3)
    last = open_terminal("run", "-c", OLLAMA_HOST=server.address)
    at_prompt(last)
    assert last.lines[:2] == [">>> another question", "second"]
    say(last, "more", "third")
    assert [one["content"] for one in server.bodies[2]["messages"]] == ["another question", "second", "more"]
    named = open_terminal("run", f"--continue={oldest['id']}", OLLAMA_HOST=server.address)
    at_prompt(named)
    say(named, "and more", "fourth")
    roles = [(one["role"], one["content"]) for one in server.bodies[3]["messages"]]
    assert roles[:2] == [("system", "Be brief."), ("user", "the first question")]
    assert len(ollama("chats", "--json").out.splitlines()) == 2
    assert ollama("chats", "--delete", oldest["id"]).out == f"deleted '{oldest['id']}'\n"
    assert ollama("chats", "--delete", "../x").err == "Error: chat ../x not found: ollama chats lists them\n"
    assert len(ollama("chats", "--json").out.splitlines()) == 1


def test_no_session_is_kept_without_history(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(["one"], ["two"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address, OLLAMA_NOHISTORY="1")
    at_prompt(session)
    say(session, "hi", "one")
    other = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(other)
    say(other, "/set nohistory", "")
    say(other, "hi", "two")
    assert not (tmp_path / ".ollama/chats").exists()
    ollama = runner(tmp_path, server.address)
    assert ollama("chats").out.split() == ["ID", "MODEL", "MESSAGES", "MODIFIED", "TITLE"]
    nothing = open_terminal("run", "-c", OLLAMA_HOST=server.address)
    assert nothing.wait() == 1
    assert nothing.lines[0] == "Error: no chat is kept"


def test_a_disk_that_takes_no_chats(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(["one"], ["two"])
    (tmp_path / ".ollama").mkdir()
    (tmp_path / ".ollama/chats").write_text("a file")
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "hi", "one\n\nerror: chats cannot be kept: file exists:")
    say(session, "more", "two")
    assert "\n".join(session.lines).count("error:") == 1


def test_chats_of_one_second_have_different_ids(tmp_path: Path) -> None:
    chats = Chats(tmp_path / "chats")
    ids = [chats.new_id() for _ in range(20)]
    assert len(set(ids)) == 20
    for id in ids[:3]:
        chats.save(id, {"model": "m", "messages": []})
    # Ids that were never used are not listed.
    assert {chat.id for chat in chats.all()} == set(ids[:3])


def test_the_oldest_chats_are_removed(tmp_path: Path) -> None:
    chats = Chats(tmp_path)
    for number in range(101):
        (tmp_path / f"20260101-{number:06}.json").write_text('{"messages": []}')
        os.utime(tmp_path / f"20260101-{number:06}.json", (number, number))
    chats.save(chats.new_id(), {"model": "m", "messages": []})
    kept = [chat.id for chat in chats.all()]
    assert len(kept) == 100
    assert "20260101-000002" in kept
    assert "20260101-000001" not in kept


def test_completion_with_tab(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve()
    (tmp_path / "a picture.png").write_bytes(PNG)
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    for typed, completed in [
        ("/reg\t", ">>> /regenerate"),
        ("/set param\t", ">>> /set parameter"),
        ("/set parameter temp\t", ">>> /set parameter temperature"),
        ("/load oth\t", ">>> /load other:latest"),
        ("see ./a\t", ">>> see ./a\\ picture.png"),
        ("a\tb", ">>> a        b"),
    ]:
        session.type(typed)
        session.wait_for(completed)
        session.type(CTRL_C)
        at_prompt(session)


def test_images_by_their_paths(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "a picture.png").write_bytes(PNG)
    picture = base64.b64encode(PNG).decode()
    seeing = serve(["one"], ["two"], capabilities=["completion", "vision"])
    session = open_terminal("run", "m", OLLAMA_HOST=seeing.address, columns=200)
    at_prompt(session)
    # As terminals paste the paths of files that are dropped on them.
    say(session, "what is ./a\\ picture.png", "Added image 'a picture.png'")
    say(session, f"file://{tmp_path}/a%20picture.png and?", "two")
    assert [body["messages"][-1] for body in seeing.bodies] == [
        {"role": "user", "content": "what is", "images": [picture]},
        {"role": "user", "content": "and?", "images": [picture]},
    ]
    blind = serve(["three"])
    session = open_terminal("run", "m", OLLAMA_HOST=blind.address)
    at_prompt(session)
    say(session, "see ./a\\ picture.png", 'warning: model "m" does not take files:')
    assert blind.bodies[0]["messages"] == [{"role": "user", "content": "see ./a\\ picture.png"}]


def test_history_is_searched_by_the_beginning(open_terminal: Open, serve: Serve) -> None:
    server = serve(["one"], ["two"], ["three"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "alpha", "one")
    say(session, "beta", "two")
    session.type("al\x1b[A")
    session.wait_for(">>> alpha", 2)
    session.type(CTRL_C)
    at_prompt(session)
    session.type("\x12alp")
    session.wait_for("(reverse-i-search)`alp': alpha")
    session.type("\r")
    session.type("\r")
    answered(session, "three")


def test_a_model_that_vanishes_in_an_answer(open_terminal: Open, serve: Serve) -> None:
    broken = ["Half **an", {"error": "model 'm' not found"}]
    server = serve(broken, ["whole"], broken)
    session = open_terminal("run", "m", OLLAMA_HOST=server.address)
    at_prompt(session)
    say(session, "hi", "Half **an\nerror: model 'm' not found")
    say(session, "again", "whole")
    # The exchange that failed is not part of the conversation.
    assert [one["content"] for one in server.bodies[1]["messages"]] == ["again"]
    session.type(CTRL_D)
    session.process.wait(PATIENCE)
    assert session.is_restored()
    command = open_terminal("run", "m", "hi", OLLAMA_HOST=server.address)
    assert command.wait() == 1
    assert command.lines[:2] == ["Half **an", "Error: model 'm' not found"]


def test_a_dumb_terminal(open_terminal: Open, tmp_path: Path, serve: Serve) -> None:
    server = serve(["# one"])
    session = open_terminal("run", "m", OLLAMA_HOST=server.address, term="dumb")
    session.wait_for(">>>")
    session.type("hi\r")
    session.wait_for("# one")
    session.wait_for(">>>", 2)
    session.type("/bye\r")
    assert session.wait() == 0
    assert "\x1b" not in session.output
    assert (tmp_path / ".ollama/history").read_text() == "hi\n/bye\n"


def test_a_terminal_with_another_encoding(open_terminal: Open, serve: Serve) -> None:
    server = serve(["- one\n- 汉字"])
    command = open_terminal(
        "run", "m", "hi", OLLAMA_HOST=server.address, PYTHONIOENCODING="cp437", PYTHONUTF8="0"
    )
    assert command.wait() == 0
    assert command.lines[:2] == [" - one", " - ??"]
    assert command.output.isascii()


def test_a_conversation_goes_on_only_on_a_terminal(tmp_path: Path) -> None:
    result = runner(tmp_path, "127.0.0.1:1")("run", "-c")
    assert result.code == 1
    assert result.err == "Error: --continue continues a session: it needs a terminal, and takes no prompt\n"
