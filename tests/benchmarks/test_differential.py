"""The differential run: its data, two servers of this project against each other, and a named reference."""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.differential import __main__ as command
from benchmarks.differential.cases import Case, merged, read_cases
from benchmarks.differential.comparison import (
    ABSENT,
    Deliberate,
    Difference,
    compare,
    read_deliberate,
    reason_for,
)
from benchmarks.differential.exchange import PREFIX, LiveServer, Reply
from benchmarks.differential.normal_form import normal_form
from benchmarks.differential.recording import read
from benchmarks.differential.run import Result, judge, record, report
from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny

NAMES = {"chat": PREFIX + "chat", "embed": PREFIX + "embed"}
CASES = read_cases(NAMES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("files")
    tiny(directory, "chat", chat_template=CHATML)
    tiny(directory, "embed", metadata={"llama.pooling_type": 1})
    return {key: directory / f"{key}.gguf" for key in NAMES}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, LiveServer]]:
    with ExitStack() as stack:
        found = []
        for version in ("1.0.0", "2.0.0"):
            home = tmp_path_factory.mktemp("home")
            application = Application(home, OLLAMA_NO_CLOUD="1", OLLAMA_VERSION=version)
            stack.callback(application.close)
            application.set_reply("Hel", "lo")
            found.append(LiveServer(application.url))
        yield found[0], found[1]


def test_two_servers_of_this_project_differ_in_their_settings_only(
    servers: tuple[LiveServer, LiveServer], files: dict[str, Path]
) -> None:
    reference, candidate = (record(server, CASES, files, lambda text: None) for server in servers)
    result = judge(reference, candidate, [])
    assert "60-routing/version" in {one.case for one in result.unexpected}
    assert {(one.at, one.reference, one.candidate) for one in result.unexpected} == {
        ("body.version", "1.0.0", "2.0.0")
    }
    assert result.cases == len(CASES)
    assert not [name for name, reply in reference.replies.items() if isinstance(reply, str)]
    # Nothing of the run is left behind.
    assert json.loads(servers[0].send("GET", "/api/tags").body) == {"models": []}


def test_a_recording_takes_the_place_of_the_reference(
    servers: tuple[LiveServer, LiveServer],
    files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = tmp_path / "replies.xz"
    models = ["--chat", str(files["chat"]), "--embed", str(files["embed"])]
    assert command.main(["--reference", servers[0].url, "--record", str(recording), *models]) == 0
    assert command.main(["--reference", str(recording), "--candidate", str(recording), *models]) == 0
    assert f"{len(CASES)} requests: {len(CASES)} equal" in capsys.readouterr().out
    assert read(recording).server == servers[0].url


def test_without_a_reference_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(command.REFERENCE, raising=False)
    assert command.main(["--chat", str(tmp_path), "--embed", str(tmp_path)]) == 2
    assert "no reference is named" in capsys.readouterr().out


# --------------------------------------------------------------------------------------- data


def test_every_deliberate_difference_has_a_reason_and_a_case() -> None:
    deliberate = read_deliberate()
    assert deliberate
    for one in deliberate:
        assert one.reason.endswith(".")
        assert any(
            one.covers(Difference(case.name, one.at.replace("*", "x"), one.reference, one.candidate))
            for case in CASES
        ), one


def test_no_request_can_generate_without_end() -> None:
    prompts = ("prompt", "messages")
    limits = ("max_tokens", "num_predict")
    for case in CASES:
        try:
            body = json.loads(case.body or b"{}")
        except ValueError:
            continue
        if (
            not isinstance(body, dict)
            or body.get("model") != NAMES["chat"]
            or not any(map(body.get, prompts))
        ):
            continue
        # A debug request renders the prompt only.
        options = body.get("options") if isinstance(body.get("options"), dict) else {}
        bounded = any(limit in fields for fields in (body, options or {}) for limit in limits)
        assert bounded or body.get("_debug_render_only"), case.name


def test_changes_are_merged_in_depth() -> None:
    body = {"a": 1, "options": {"seed": 1, "stop": ["x"]}}
    assert merged(body, {"a": None, "options": {"stop": []}}) == {
        "a": None,
        "options": {"seed": 1, "stop": []},
    }
    assert merged(body, {"options": None}) == {"a": 1, "options": None}


# --------------------------------------------------------------------------------- comparison


def test_values_order_and_members_are_compared() -> None:
    assert list(
        compare("c", {"body": {"a": 1, "b": [1, {"x": 2}]}}, {"body": {"b": [1, {"x": 3}], "c": 4}})
    ) == [
        Difference("c", "body.a", 1, ABSENT),
        Difference("c", "body.b.1.x", 2, 3),
        Difference("c", "body.c", ABSENT, 4),
    ]
    assert list(compare("c", {"body": {"a": 1, "b": 2}}, {"body": {"b": 2, "a": 1}})) == [
        Difference("c", "body.<order>", ["a", "b"], ["b", "a"])
    ]
    assert list(compare("c", {"n": 1}, {"n": True})) == [Difference("c", "n", 1, True)]
    assert list(compare("c", [1, 2], [1])) == [Difference("c", "", [1, 2], [1])]


def test_a_deliberate_difference_may_name_the_values() -> None:
    difference = Difference("32-options/types/0", "status", 500, 400)
    assert reason_for(difference, [Deliberate("32-*", "status", "Why.", 500, 400)]) == "Why."
    assert reason_for(difference, [Deliberate("32-*", "status", "Why.", 500, 404)]) is None
    assert reason_for(difference, [Deliberate("31-*", "*", "Why.")]) is None
    result = Result()
    result.add([difference], [])
    text = io.StringIO()
    report(result, text)
    assert "32-options/types/0\n  status\n    reference: 500\n    candidate: 400\n" in text.getvalue()


def form(
    body: str, kind: str = "application/json", *, generated: bool = False, path: str = "/api/x"
) -> object:
    case = Case("c", "POST", path, generated=generated)
    return normal_form(case, Reply(200, {"content-type": kind}, body.encode()))["body"]


def test_what_varies_from_run_to_run_is_marked() -> None:
    body = '{"created_at": "2026-01-02T03:04:05.123Z", "total_duration": 5, "size": 9, "id": "chatcmpl-17"}'
    assert form(body) == {
        "created_at": "<time>", "total_duration": "<ns>", "size": "<bytes>", "id": "chatcmpl-<id>"
    }  # fmt: skip
    # A malformed one is not.
    assert form('{"created_at": "yesterday", "total_duration": 0}') == {
        "created_at": "yesterday",
        "total_duration": 0,
    }
    assert form('{"response": "Hi", "eval_count": 3}') == {"response": "Hi", "eval_count": 3}
    assert form('{"response": "Hi", "eval_count": 3}', generated=True) == {
        "response": "<text>",
        "eval_count": "<count>",
    }
    assert form('{"embedding": [0.6, 0.8]}') == {"embedding": {"floats": 2, "norm": 1.0}}
    assert form("404 page not found", "text/plain") == "404 page not found"


def test_the_pieces_of_a_stream_are_joined() -> None:
    pieces = '{"response": "a", "done": false}\n{"response": "b", "done": false}\n'
    last = '{"response": "", "done": true, "context": [1]}\n'
    expected = {
        "shapes": [
            {"response": "text", "done": False},
            {"response": "text", "done": True, "context": ["number"]},
        ],
        "text": "ab",
        "last": {"response": "", "done": True, "context": [1]},
    }
    assert form(pieces + last, "application/x-ndjson") == expected
    assert form('{"response": "ab", "done": false}\n' + last, "application/x-ndjson") == expected
    events = 'event: x\ndata: {"content": "a"}\n\ndata: [DONE]\n\n'
    assert form(events, "text/event-stream") == {
        "shapes": [{"event": "text", "data": {"content": "text"}}, {"data": "text"}],
        "text": "a",
        "last": {"data": "[DONE]"},
    }  # fmt: skip


def test_only_the_models_of_the_run_are_compared_in_lists() -> None:
    body = '{"models": [{"name": "differential-b"}, {"name": "other:latest"}, {"name": "differential-a"}]}'
    assert form(body, path="/api/tags") == {
        "models": [{"name": "differential-a"}, {"name": "differential-b"}]
    }
