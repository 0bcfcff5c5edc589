"""Streams of the SDKs that wait for their first token."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import anthropic
import openai
import pytest

from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Application]:
    """Start a server whose model does not generate before it is released, with frequent keep-alives."""
    application = Application(tmp_path / "home")
    application.create("m", tiny(tmp_path, "m", chat_template=CHATML))
    application.set_reply("Hello", " there")
    application.generate(prompt="")
    application.hold()
    with patch("ollama_tw.http.server.stream.KEEP_ALIVE", 0.01):
        yield application
    application.close()


def wait_for_comments(app: Application, path: str) -> None:
    """Read two comments of a stream of our own, by when those of the SDK have come, too."""
    connection = app.connect()
    connection.request(
        "POST",
        path,
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "stream": true}',
    )
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert [response.readline() for _ in range(3)] == [b": keep-alive\n", b"\n", b": keep-alive\n"]
    connection.close()


def test_the_openai_sdk_skips_them(waiting: Application) -> None:
    client = openai.OpenAI(base_url=f"{waiting.url}/v1", api_key="none", timeout=PATIENCE, max_retries=0)
    # The head of the reply comes with the first comment, before there is a token.
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    wait_for_comments(waiting, "/v1/chat/completions")
    waiting.release()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello there"


def test_the_anthropic_sdk_skips_them(waiting: Application) -> None:
    client = anthropic.Anthropic(base_url=waiting.url, api_key="none", timeout=PATIENCE, max_retries=0)
    with client.messages.stream(
        model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=9
    ) as stream:
        wait_for_comments(waiting, "/v1/messages")
        waiting.release()
        assert stream.get_final_text() == "Hello there"
