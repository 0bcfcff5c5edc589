"""Conversations of real clients on templates that insist on an order, at every endpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.application import Application
from tests.helpers.http import Reply
from tests.helpers.models import tiny
from tests.templates.sources import ALTERNATING_AFTER_SYSTEM

Post = Callable[..., Reply]


@pytest.fixture
def strict(app: Application, tmp_path: Path) -> Callable[..., Reply]:
    app.create("strict", tiny(tmp_path, "strict", chat_template=ALTERNATING_AFTER_SYSTEM))

    def post(path: str, **body: Any) -> Reply:
        return app.post(path, {"model": "strict", "stream": False, "max_tokens": 9, **body})

    return post


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_texts_in_parts(app: Application, strict: Post) -> None:
    messages = [{"role": "user", "content": [text("a"), text("b")]}]
    assert strict("/v1/chat/completions", messages=messages).status == 200
    assert app.job.prompt == "[u:a\nb]"


def test_instructions_and_a_developer_item(app: Application, strict: Post) -> None:
    items = [
        {"role": "developer", "content": "t"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    assert strict("/v1/responses", instructions="s", input=items).status == 200
    assert app.job.prompt == "[s:s\n\nt][u:a\n\nb]"


def test_system_texts_at_the_beginning_and_in_the_middle(app: Application, strict: Post) -> None:
    two = [{"role": "system", "content": "s"}, {"role": "system", "content": "t"}]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    later = [{"role": "system", "content": "u"}, {"role": "user", "content": "c"}]
    assert strict("/api/chat", messages=[*two, *turns, *later]).status == 200
    assert app.job.prompt == "[s:s\n\nt\n\nu][u:a][a:b][u:c]"
    assert strict("/v1/messages", system="s", messages=[*turns, *later]).status == 200
    assert app.job.prompt == "[s:s\n\nu][u:a][a:b][u:c]"


def test_a_result_and_text_in_one_turn(app: Application, strict: Post) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    output = {"type": "tool_result", "tool_use_id": "t1", "content": "r"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [output, text("c")]},
    ]
    assert strict("/v1/messages", messages=messages).status == 200
    assert app.job.prompt == "[u:a][a:!f][t:r\n\nc]"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_what_stays_refused_is_the_templates_text(strict: Post, path: str) -> None:
    reply = strict(path, messages=[{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}])
    assert reply.status == 400
    assert "roles must alternate" in str(reply.json["error"])
