"""Edge cases of the fields of generate and chat, and the prompts that they result in."""

from typing import Any

import pytest

from tests.helpers.application import Application
from tests.helpers.models import WEATHER


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("temperature", "0.1", 'option "temperature" must be of type float32'),
        ("top_p", [], 'option "top_p" must be of type float32'),
        ("num_ctx", "1", 'option "num_ctx" must be of type integer'),
        ("num_ctx", True, 'option "num_ctx" must be of type integer'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", "x", 'option "stop" must be of type array'),
        ("stop", [1], 'option "stop" must be of an array of strings'),
    ],
)
@pytest.mark.parametrize("path", ["generate", "chat", "embed", "embeddings"])
def test_rows_17_and_18_options_of_the_wrong_type(
    app: Application, path: str, option: str, value: Any, text: str
) -> None:
    body = {"model": "m", "prompt": "x", "input": "x", "options": {option: value}}
    reply = app.post(f"/api/{path}", body)
    # Ollama answers 500.
    assert (reply.status, reply.json) == (400, {"error": text})


def test_row_19_options_are_read_generously(app: Application) -> None:
    options = {"num_ctx": 2048.9, "mirostat": 2, "foo": 1, "top_k": None, "Temperature": 3}
    assert app.generate(options=options).status == 200
    assert app.runner.context_length == 2048
    assert app.job.sampling.top_k == 40
    assert app.job.sampling.temperature == 0.8


@pytest.mark.parametrize("path", ["generate", "chat"])
@pytest.mark.parametrize(
    ("value", "quoted"), [("xml", r"\"xml\""), (True, "true"), (["a"], r"[\"a\"]"), (5, "5")]
)
def test_row_20_formats_that_are_none(app: Application, path: str, value: Any, quoted: str) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "prompt": "x", "messages": messages, "format": value}
    reply = app.post(f"/api/{path}", body)
    text = f'invalid format: "{quoted}"; expected "json" or a valid JSON Schema object'
    # Ollama answers 500.
    assert (reply.status, reply.json) == (400, {"error": text})


@pytest.mark.parametrize("value", ["", None])
def test_row_20_formats_that_mean_nothing(app: Application, value: Any) -> None:
    assert app.generate(format=value).json["response"] == "Hello"
    assert app.job.grammar == ""


@pytest.mark.parametrize("value", ["json", {"type": "object"}])
def test_row_20_formats(app: Application, value: Any) -> None:
    assert app.generate(format=value).status == 200
    assert "root ::=" in app.job.grammar


@pytest.mark.parametrize("fields", [{"system": "x"}, {"template": "x"}, {"context": [1]}])
def test_row_27_raw_and_what_it_excludes(app: Application, fields: dict[str, Any]) -> None:
    reply = app.generate(raw=True, **fields)
    text = "raw mode does not support template, system, or context"
    assert (reply.status, reply.json) == (400, {"error": text})
    assert app.generate(raw=True, **{name: type(value)() for name, value in fields.items()}).status == 200


def test_row_33_only_generate_has_a_context_and_not_with_raw(app: Application) -> None:
    record = app.generate(stream=True).records[-1]
    assert "".join(map(chr, record["context"])) == "<|user|>hi<|assistant|>Hello"
    assert "context" not in app.generate(raw=True).json
    assert "context" not in app.chat("hi").json


def test_row_33_a_context_goes_on(app: Application) -> None:
    context = app.generate().json["context"]
    app.generate(prompt="more", context=context)
    assert app.job.prompt == "<|user|>hi<|assistant|>Hello<|user|>more<|assistant|>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10", 'time: missing unit in duration "10"'),
        ("", 'time: invalid duration ""'),
        ("soon", 'time: invalid duration "soon"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "chat", "embed", "embeddings"])
def test_row_28_keep_alive_values(app: Application, path: str, value: Any, text: str) -> None:
    reply = app.post(f"/api/{path}", {"model": "m", "keep_alive": value})
    assert (reply.status, reply.json) == (400, {"error": text})


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_row_29_data_urls_are_images_but_other_urls_are_not(app: Application, path: str) -> None:
    def post(url: str) -> Any:
        messages = [{"role": "user", "content": "see", "images": [url]}]
        return app.post(
            f"/api/{path}", {"model": "m", "prompt": "see", "images": [url], "messages": messages}
        )

    assert post("data:image/png;base64,iVBORw0KGgo=").status == 200
    assert app.job.images == (b"\x89PNG\r\n\x1a\n",)
    reply = post("file:///etc/passwd")
    assert (reply.status, reply.json) == (400, {"error": "illegal base64 data at input byte 4"})


def test_content_in_parts(app: Application) -> None:
    parts = [
        {"type": "text", "text": "see "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": "this"},
    ]
    assert (
        app.post("/api/chat", {"model": "m", "messages": [{"role": "user", "content": parts}]}).status == 200
    )
    assert "see this" in str(app.job.prompt)
    assert app.job.images == (b"\x89PNG\r\n\x1a\n",)
    wrong = [{"type": "video", "video": "x"}]
    reply = app.post("/api/chat", {"model": "m", "messages": [{"role": "user", "content": wrong}]})
    assert (reply.status, reply.json) == (
        400,
        {"error": '"content" must be a string or an array of parts of type "text" or "image_url"'},
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        *(('{"a":1}', 200), ("", 200), (None, 200), ("null", 200)),
        *(('{"a":1}{"b":2}', 400), ("[]", 400), ("x", 400), ([1], 400), (5, 400)),
    ],
)
def test_row_30_arguments_are_an_object_or_its_text(app: Application, arguments: Any, status: int) -> None:
    call = {"function": {"name": "weather", "arguments": arguments}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    reply = app.post("/api/chat", {"model": "tools", "messages": messages})
    assert reply.status == status
    if status == 200:
        expected = '{"a": 1}' if arguments == '{"a":1}' else "{}"
        assert expected in str(app.job.prompt).replace('{"a":1}', '{"a": 1}')
    else:
        assert "arguments" in reply.json["error"]


def test_a_byte_order_mark(app: Application) -> None:
    reply = app.post("/api/generate", b'\xef\xbb\xbf{"model":"m","prompt":"hi","stream":false}')
    assert (reply.status, reply.json["response"]) == (200, "Hello")


def test_row_66_a_template_of_the_request_gets_no_image_tags(app: Application) -> None:
    fields: dict[str, Any] = {"template": "<{{ .Prompt }}>", "images": ["aGk="], "_debug_render_only": True}
    assert app.generate(prompt="see", **fields).json["_debug_info"] == {
        "rendered_template": "<see>",
        "image_count": 1,
    }
    shown = app.generate(prompt="see [img-0]", **fields).json["_debug_info"]["rendered_template"]
    assert shown == "<see [img-0]>"


@pytest.mark.parametrize("content", [["x"], {"type": "text"}, 5])
def test_section_2_1_content_is_a_text(app: Application, content: Any) -> None:
    messages = [{"role": "user", "content": content}]
    reply = app.post("/api/chat", {"model": "m", "messages": messages})
    assert reply.status == 400
    assert "content" in reply.json["error"]


def test_row_32_roles_are_in_lower_case(app: Application) -> None:
    messages = [{"role": "USER", "content": "a"}, {"role": "Assistant", "content": "b"}]
    app.chat(messages=messages)
    assert app.job.prompt == "<|user|>a<|assistant|>b<|assistant|>"


@pytest.mark.parametrize(("path", "message"), [("generate", None), ("chat", {"role": "", "content": ""})])
def test_row_63_only_the_prompt_is_wanted(app: Application, path: str, message: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "prompt": "hi", "messages": messages, "_debug_render_only": True}
    record = app.post(f"/api/{path}", body).json
    assert record["_debug_info"] == {"rendered_template": "<|user|>hi<|assistant|>"}
    assert record["done"] is False
    assert record.get("message") == message


def test_row_64_system_messages_survive_a_cut_and_move_to_the_front(app: Application) -> None:
    old = [{"role": role, "content": "o" * 300} for role in ("user", "assistant")] * 4
    messages = [
        *old[:2],
        {"role": "system", "content": "Rule."},
        *old[2:],
        {"role": "assistant", "content": "kept"},
        {"role": "user", "content": "last"},
    ]
    record = app.chat(messages=messages, options={"num_ctx": 200}).json
    assert app.job.prompt == "<|system|>Rule.<|assistant|>kept<|user|>last<|assistant|>"
    # The number of dropped tokens is reported.
    assert record["prompt_truncated"] > 1500


def test_row_65_the_models_own_system_gives_way_to_a_first_one_only(app: Application) -> None:
    app.chat("hi", model="system")
    assert app.job.prompt == "<|system|>Be brief.<|user|>one<|assistant|>two<|user|>hi<|assistant|>"
    system = {"role": "system", "content": "Rule."}
    user = {"role": "user", "content": "hi"}
    app.chat(model="system", messages=[system, user])
    assert app.job.prompt == "<|user|>one<|assistant|>two<|system|>Rule.<|user|>hi<|assistant|>"
    app.chat(model="system", messages=[user, system])
    assert app.job.prompt == (
        "<|system|>Be brief.<|user|>one<|assistant|>two<|user|>hi<|system|>Rule.<|assistant|>"
    )


def test_section_1_6_system_and_template_of_the_request(app: Application) -> None:
    app.generate(model="system", system="Mine.")
    assert app.job.prompt == "<|system|>Mine.<|user|>one<|assistant|>two<|user|>hi<|assistant|>"
    app.generate(model="system", context=[])
    assert app.job.prompt == "<|system|>Be brief.<|user|>hi<|assistant|>"
    app.generate(template="[{{ .System }}|{{ .Prompt }}]", system="S")
    assert app.job.prompt == "[S|hi]"


def test_section_1_6_a_template_that_does_not_parse(app: Application) -> None:
    reply = app.generate(template="{{ .Prompt")
    assert reply.status == 500
    assert reply.json["error"].startswith("template: :1: ")


def test_row_68_num_predict_0_is_no_limit_where_the_server_renders(app: Application) -> None:
    assert app.generate(model="go-insert", options={"num_predict": 0}).json["response"] == "Hello"
    reply = app.generate(options={"num_predict": 0}).json
    assert (reply["response"], reply["done_reason"]) == ("", "length")
    for endless in (-1, -2):
        assert app.generate(options={"num_predict": endless}).json["response"] == "Hello"


def test_tools_and_results_reach_the_prompt(app: Application) -> None:
    call = {"id": "call_1", "function": {"name": "weather", "arguments": {"z": 1, "a": 2}}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "call_1"},
    ]
    for model in ("tools", "go-tools"):
        app.chat(model=model, messages=messages, tools=[WEATHER])
        assert isinstance(app.job.prompt, str)
        assert app.job.prompt.endswith("</tool_call><|tool|>rain<|assistant|>")
        assert '"city"' in app.job.prompt
