"""Capabilities of models, and errors of requests that require others."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.application import Application
from tests.helpers.models import CHATML, WEATHER, tiny

LIBRARY = "registry.ollama.ai/library"


@pytest.mark.parametrize(
    ("model", "capabilities"),
    [
        ("m", {"completion"}),
        ("thinker", {"completion", "thinking"}),
        ("go-thinker", {"completion", "thinking"}),
        ("tools", {"completion", "tools"}),
        ("go-tools", {"completion", "tools"}),
        ("go-insert", {"completion", "insert"}),
        ("embedder", {"embedding"}),
    ],
)
def test_section_0_5_sources(app: Application, model: str, capabilities: set[str]) -> None:
    assert set(app.post("/api/show", {"model": model}).json["capabilities"]) == capabilities


@pytest.mark.parametrize(
    ("path", "model", "fields", "text"),
    [
        ("generate", "embedder", {"prompt": "x"}, '"embedder" does not support generate'),
        ("generate", "EMBEDDER", {}, '"EMBEDDER" does not support generate'),
        ("chat", "embedder", {"messages": [{"role": "user"}]}, '"embedder" does not support chat'),
        ("generate", "m", {"prompt": "x", "suffix": "y"}, f"{LIBRARY}/m:latest does not support insert"),
        (
            "chat",
            "m",
            {"messages": [{"role": "user"}], "tools": [WEATHER]},
            f"{LIBRARY}/m:latest does not support tools",
        ),
        ("generate", "m", {"prompt": "x", "think": True}, '"m" does not support thinking'),
        ("chat", "m", {"think": "low"}, '"m" does not support thinking'),
        ("chat", "embedder", {"think": True, "tools": [WEATHER]}, '"embedder" does not support thinking'),
        ("chat", "embedder", {"tools": [WEATHER]}, '"embedder" does not support chat'),
        ("generate", "embedder", {"prompt": "x", "suffix": "y"}, '"embedder" does not support generate'),
    ],
)
def test_section_0_5_refusals(
    app: Application, path: str, model: str, fields: dict[str, Any], text: str
) -> None:
    reply = app.post(f"/api/{path}", {"model": model, **fields})
    assert (reply.status, reply.json) == (400, {"error": text})


def test_row_16_a_suffix_without_a_prompt_only_loads(app: Application) -> None:
    reply = app.generate(model="go-insert", prompt="", suffix="y")
    assert (reply.status, reply.json["done_reason"]) == (200, "load")
    assert app.generate(model="m", prompt="", suffix="y").status == 400


def test_row_16_infilling_by_template_and_by_tokens(app: Application) -> None:
    assert app.generate(model="go-insert", prompt="a", suffix="b").json["response"] == "Hello"
    assert app.job.prompt == "[SUFFIX]b[PREFIX]a"
    app.generate(model="fim", prompt="a", suffix="b")
    assert app.job.prompt == "<a|b>"


@pytest.mark.parametrize(
    "names",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ],
)
def test_infilling_by_the_tokens_of_the_vocabulary(
    app: Application, tmp_path: Path, names: tuple[str, str, str]
) -> None:
    # The fake backend's tokens are characters: those of the three places are "<", "|" and ">".
    vocabulary = [f"t{number}" for number in range(128)]
    for mark, name in zip("<|>", names, strict=True):
        vocabulary[ord(mark)] = name
    app.create("vocabulary", tiny(tmp_path, "vocabulary", tokens=tuple(vocabulary)))
    for _ in range(2):
        app.generate(model="vocabulary", prompt="a", suffix="b")
        assert app.job.prompt == "<a|b>"
    vocabulary[ord("|")] = "other"
    app.create("vocabulary", tiny(tmp_path, "vocabulary", tokens=tuple(vocabulary)))
    reply = app.generate(model="vocabulary", prompt="a", suffix="b")
    error = "registry.ollama.ai/library/vocabulary:latest does not support insert"
    assert (reply.status, reply.json) == (400, {"error": error})
    app.request("DELETE", "/api/delete", {"model": "vocabulary"})


@pytest.mark.parametrize("path", ["generate", "chat"])
@pytest.mark.parametrize(
    ("think", "text"),
    [
        (
            "extreme",
            'invalid think value: "extreme" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ("", 'invalid think value: "" (must be "high", "medium", "low", "max", true, or false)'),
        (1.5, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ([], 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_row_22_think_values(app: Application, path: str, think: Any, text: str) -> None:
    for model in ("m", "thinker"):
        reply = app.post(f"/api/{path}", {"model": model, "prompt": "x", "think": think})
        assert (reply.status, reply.json) == (400, {"error": text})


@pytest.mark.parametrize("model", ["thinker", "go-thinker"])
def test_row_23_thinking_is_on_unless_it_is_turned_off(app: Application, model: str) -> None:
    app.set_reply("<think>", "hm", "</think>", "yes")
    records = app.chat("hi", model=model, stream=True).records
    assert [record["message"] for record in records] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": ""},
    ]
    for think in (True, "high", None):
        reply = app.generate(model=model, think=think).json
        assert (reply["thinking"], reply["response"]) == ("hm", "yes")
    reply = app.generate(model=model, think=False).json
    assert reply["response"] == "<think>hm</think>yes"
    assert "thinking" not in reply


def test_row_24_a_plain_model_may_be_told_not_to_think(app: Application) -> None:
    assert app.generate(think=False).json["response"] == "Hello"
    assert app.chat("hi", think=False).json["message"]["content"] == "Hello"


@pytest.mark.parametrize("model", ["tools", "go-tools"])
def test_row_36_and_69_calls(app: Application, model: str) -> None:
    app.set_reply(
        "Look: ", '<tool_call>{"name": "weather", "arguments":', ' {"city": "Oslo"}}</tool_call>', " done"
    )
    reply = app.chat("hi", model=model, tools=[WEATHER]).json
    message = reply["message"]
    assert reply["done_reason"] == "stop"
    (call,) = message["tool_calls"]
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Oslo"}}
    assert len(call["id"]) == len("call_12345678")
    assert isinstance(app.job.prompt, str)
    assert '"name":"weather"' in app.job.prompt.replace(": ", ":")
    # Text before and after the call is content.
    assert message["content"].replace(" ", "") == "Look:done"


@pytest.mark.parametrize("model", ["tools", "go-tools"])
def test_row_69_a_call_to_a_tool_that_was_not_declared_stays_readable(app: Application, model: str) -> None:
    said = '<tool_call>{"name": "delete", "arguments": {}}</tool_call>'
    app.set_reply(said)
    message = app.chat("hi", model=model, tools=[WEATHER]).json["message"]
    assert "tool_calls" not in message
    assert "delete" in message["content"]


def test_without_tools_in_the_request_nothing_is_taken_for_a_call(app: Application) -> None:
    said = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    app.set_reply(said)
    message = app.chat("hi", model="go-tools").json["message"]
    assert message == {"role": "assistant", "content": said}


def test_section_0_5_what_the_configuration_and_the_family_say(app: Application, tmp_path: Path) -> None:
    data = tiny(tmp_path, "configured", chat_template=CHATML)
    app.create("configured", data, info={"capabilities": ["thinking", "audio"]})
    assert app.post("/api/show", {"model": "configured"}).json["capabilities"] == [
        *("thinking", "audio", "completion")
    ]
    app.create("family", data, info={"model_family": "gptoss"})
    assert set(app.post("/api/show", {"model": "family"}).json["capabilities"]) == {"completion", "thinking"}


def test_section_0_5_models_that_make_images(app: Application, tmp_path: Path) -> None:
    data = tiny(tmp_path, "painter", chat_template=CHATML)
    app.create("painter", data, info={"capabilities": ["image"]})
    reply = app.generate(model="painter")
    text = "image generation models are not currently supported"
    assert (reply.status, reply.json) == (400, {"error": text})
    assert app.generate(model="painter", prompt="", keep_alive=0).json["done_reason"] == "unload"
