"""Thinking and tool calls of real chat templates, as a client gets them."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.application import Application
from tests.helpers.models import tiny
from tests.helpers.reference_data import chat_templates, vectors

# Of each template, the first reply that has thinking and calls, or else calls, or else thinking.
_WANTED = (
    "think_text_call/",
    "think_call/",
    "text_two_calls/",
    "call_two",
    "call_one",
    "think_answer/",
    "plain/",
)


_ONE_MARK = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")


def chosen() -> list[dict[str, Any]]:
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for vector in vectors("chat_outputs"):
        template, kind = vector["name"].split("/", 1)
        rank = next((rank for rank, wanted in enumerate(_WANTED) if kind.startswith(wanted)), None)
        if rank is not None and rank < found.get(template, (len(_WANTED), {}))[0]:
            found[template] = rank, vector
    return [vector for _, vector in found.values()]


@pytest.mark.parametrize("vector", chosen(), ids=lambda vector: vector["name"])
def test_a_client_gets_thinking_content_and_calls(
    app: Application, tmp_path: Path, vector: dict[str, Any]
) -> None:
    case, expect = vector["case"], vector["expect"]
    model = case["template"].lower()
    app.create(model, tiny(tmp_path, model, chat_template=chat_templates()[case["template"]]))
    output = case["output"]
    app.set_reply(*(output[at : at + 3] for at in range(0, len(output), 3)))
    for stream in (False, True):
        fields = {"tools": case["tools"], "think": case["think"], "options": {"num_ctx": 65536}}
        reply = app.chat("Hello", model=model, stream=stream, **fields)
        assert reply.status == 200, reply.json
        messages = [record["message"] for record in (reply.records if stream else [reply.json])]
        texts = ["".join(each.get(key) or "" for each in messages).strip() for key in ("content", "thinking")]
        assert texts == [expect["content"].strip(), expect["thinking"].strip()]
        calls = [call["function"] for each in messages for call in each.get("tool_calls") or ()]
        assert [(call["name"], call["arguments"]) for call in calls] == [
            (call["name"], call["arguments"]) for call in expect["calls"]
        ]
    kept = {mark for mark in kept_by_llama_cpp(case["template"]) if _ONE_MARK.fullmatch(mark)}
    assert {mark for mark in kept if mark in output} <= set(app.job.preserved)


def kept_by_llama_cpp(template: str) -> list[str]:
    """Return the texts that llama.cpp keeps for ``template`` though they may be control tokens."""
    return next(each["markers"] for each in vectors("capabilities") if each["template"] == template)


def test_a_model_without_a_chat_template_is_read_by_the_name_of_its_parser(
    app: Application, tmp_path: Path
) -> None:
    template = "{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ end }}{{ .Tools }}"
    app.create("named", tiny(tmp_path, "named"), template=template, parser="ministral")
    app.set_reply("[TOOL_CALLS]", "ping", "[ARGS]", "{}")
    tools = [{"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}]
    message = app.chat("Hello", model="named", tools=tools).json["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["ping"]
    assert "[ARGS]" in app.job.preserved


def test_a_named_renderer_is_its_familys_template_if_the_file_has_none(
    app: Application, tmp_path: Path
) -> None:
    weights = tiny(tmp_path, "bare")
    app.create("bare", weights, template="{{ .Prompt }}", renderer="glm-4.7", parser="glm-4.7")
    tools = [{"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}]
    app.set_reply("Hm.</think><tool_call>ping</tool_call>")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    message = app.chat(messages=messages, model="bare", tools=tools).json["message"]
    assert message["thinking"] == "Hm."
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["ping"]
    prompt = str(app.job.prompt)
    assert prompt.startswith("[gMASK]<sop><|system|>Be kind.")
    assert prompt.endswith("<|user|>Hello<|assistant|><think>")
    assert '"name": "ping"' in prompt
    app.set_reply("Hi")
    assert app.chat("Hello", model="bare", think=False).json["message"]["content"] == "Hi"
    assert app.job.prompt == "[gMASK]<sop><|user|>Hello<|assistant|></think>"


def test_a_named_renderer_is_the_files_chat_template(app: Application, tmp_path: Path) -> None:
    source = chat_templates()["google-gemma-4-31B-it"]
    app.create("own", tiny(tmp_path, "own", chat_template=source), renderer="gemma4", parser="gemma4")
    app.set_reply("Hi")
    assert app.chat("Hello", model="own").json["message"]["content"] == "Hi"
    assert "<|turn>user\nHello<turn|>" in str(app.job.prompt)
