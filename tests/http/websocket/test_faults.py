"""Faults that public reports, clients and Ollama's own suite found at the HTTP endpoints, over WebSocket."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

from tests.helpers.application import Application
from tests.helpers.models import WEATHER, application_with_models, tiny
from tests.http.websocket.test_records import open_at, receive

USER = {"role": "user", "content": "hi"}
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
SOUND = "data:image/png;base64," + base64.b64encode(b"RIFF\x24\0\0\0WAVEfmt ").decode()
ALTERNATING = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<{{ message.role }}>{{ message.content }}"
    "{% endfor %}"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    directory = tmp_path_factory.mktemp("server")
    with application_with_models(directory, OLLAMA_NUM_PARALLEL="1") as application:
        application.create("strict", tiny(directory, "strict", chat_template=ALTERNATING))
        yield application


@pytest.fixture(autouse=True)
def reply(server: Application) -> None:
    server.set_reply("yes")


def ask(server: Application, path: str, body: dict[str, Any] | str) -> list[dict[str, Any]]:
    """Return all records of a request."""
    with open_at(server, path) as connection:
        connection.send(body if isinstance(body, str) else json.dumps(body))
        records: list[dict[str, Any]] = [json.loads(receive(connection))]
        while not (records[-1].get("done", True) or "error" in records[-1]):
            records.append(json.loads(receive(connection)))
        return records


def generate(server: Application, **fields: Any) -> dict[str, Any]:
    return ask(server, "/api/generate", {"model": "m", "prompt": "hi", **fields})[-1]


def chat(server: Application, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return ask(server, "/api/chat", {"model": "m", "messages": messages or [USER], **fields})[-1]


def test_a_row_of_equal_pieces_ends_with_a_record_and_its_counts(server: Application) -> None:
    server.set_reply(*["000"] * 200)
    last = generate(server)
    assert (last["done"], last["done_reason"]) == (True, "repetition")
    assert 0 < last["eval_count"] <= 100
    assert last["eval_duration"] > 0


def test_a_generated_schema_is_enforced(server: Application) -> None:
    date = {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
    assert generate(server, format={"type": "object", "properties": {"e": date}})["done"] is True
    assert "root" in server.job.grammar
    assert generate(server, format={})["done"] is True
    assert "root" in server.job.grammar


def test_a_strict_template_gets_another_order_or_refuses(server: Application) -> None:
    assert chat(server, USER, USER, model="strict")["done"] is True
    assert server.job.prompt == "<user>hi\n\nhi"
    refused = chat(server, {"role": "assistant", "content": "x"}, USER, model="strict")
    assert refused["status"] == 400
    assert "roles must alternate" in refused["error"]


def test_what_ollama_refuses_and_clients_send(server: Application) -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert chat(server, parts, keep_alive="-1")["done"] is True
    assert "ab" in str(server.job.prompt)
    call = {"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    history: list[dict[str, Any]] = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}, USER]
    assert chat(server, *history, model="tools")["done"] is True
    assert '"city": "Oslo"' in str(server.job.prompt)
    assert generate(server, prompt="", keep_alive="0")["done_reason"] == "unload"


def test_a_byte_order_mark_is_skipped(server: Application) -> None:
    (record,) = ask(server, "/api/generate", '\ufeff{"model": "m", "prompt": "hi", "stream": false}')
    assert record["response"] == "yes"


def test_a_call_without_tags_is_a_call(server: Application) -> None:
    server.set_reply(*CALL)
    records = ask(server, "/api/chat", {"model": "tools", "messages": [USER], "tools": [WEATHER]})
    calls = [call for record in records for call in record["message"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Oslo"}]
    assert "".join(record["message"]["content"] for record in records) == ""


def test_a_suffix_uses_the_tokens_of_the_vocabulary(server: Application) -> None:
    assert generate(server, model="fim", prompt="a", suffix="b")["done"] is True
    assert server.job.prompt == "<a|b>"


def test_a_prompt_that_does_not_fit_names_the_way_out(server: Application) -> None:
    record = generate(server, prompt="x" * 5000, raw=True, truncate=False, options={"num_ctx": 128})
    assert record["status"] == 400
    assert "num_ctx" in record["error"]
    assert "OLLAMA_CONTEXT_LENGTH" in record["error"]


def test_the_length_of_a_reply_follows_the_context_of_the_request(server: Application) -> None:
    assert generate(server, options={"num_ctx": 128})["done"] is True
    assert server.job.max_tokens == 1280


def test_harmless_options_out_of_range_are_taken_and_harmful_ones_refused(server: Application) -> None:
    harmless = {"temperature": -1, "top_p": 2, "seed": 1 << 70}
    assert generate(server, options=harmless)["done"] is True
    assert generate(server, options={"num_ctx": -5})["status"] == 400


def test_texts_that_people_search_for(server: Application) -> None:
    sound = generate(server, images=[SOUND])
    assert (sound["status"], sound["error"]) == (
        400,
        "this server does not support multimodal input of audio",
    )
    with socket.create_server(("127.0.0.1", 0)) as plain:
        Thread(target=answer_plainly, args=[plain], daemon=True).start()
        model = f"127.0.0.1:{plain.getsockname()[1]}/library/m:latest"
        (pulled,) = ask(server, "/api/pull", {"model": model, "stream": False})
    assert "http: server gave HTTP response to HTTPS client" in pulled["error"]


def answer_plainly(listener: socket.socket) -> None:
    """Answer each handshake as a server without TLS does, until the listener is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
