"""Requests that turn thinking on or off, on templates of several families."""

import logging
from pathlib import Path

import pytest

from tests.helpers.application import Application
from tests.helpers.models import tiny

CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}{% endfor %}[assistant]"
OPENED = CHAT + "<think>"
EFFORT = CHAT + "{{ '<think>' if reasoning_effort | default('high') != 'no_think' else '<think></think>' }}"


def test_the_family_s_word_turns_thinking_off(app: Application, tmp_path: Path) -> None:
    app.create("effort", tiny(tmp_path, "effort", chat_template=EFFORT))
    assert app.chat("hi", model="effort", think=False).status == 200
    assert app.job.prompt == "[user]hi[assistant]<think></think>"
    assert app.chat("hi", model="effort", think=True).status == 200
    assert app.job.prompt == "[user]hi[assistant]<think>"


def test_a_maximum_of_tokens_reaches_the_templates_own_variable(app: Application, tmp_path: Path) -> None:
    budget = CHAT + "{% if thinking_budget is defined %}{{ thinking_budget }}{% endif %}<think>"
    app.create("budget", tiny(tmp_path, "budget", chat_template=budget))
    for fields in (
        {"think": 64},
        {"options": {"think_budget": 64}},
        {"think": 64, "options": {"think_budget": 99}},
    ):
        assert app.chat("hi", model="budget", **fields).status == 200
        assert app.job.prompt == "[user]hi[assistant]64<think>"
    app.chat("hi", model="budget")
    assert app.job.prompt == "[user]hi[assistant]<think>"


def test_a_template_without_a_switch_is_logged_once(
    app: Application, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app.create("opened", tiny(tmp_path, "opened", chat_template=OPENED))
    app.set_reply("hm</think>", "yes")
    with caplog.at_level(logging.WARNING, "ollama_tw.inference"):
        for _ in range(2):
            message = app.chat("hi", model="opened", think=False).json["message"]
    assert (message["content"], message.get("thinking")) == ("yes", "hm")
    (logged,) = (text for record in caplog.records if "no switch" in (text := record.getMessage()))
    assert logged.startswith("registry.ollama.ai/library/opened:latest: the chat template has no switch ")
