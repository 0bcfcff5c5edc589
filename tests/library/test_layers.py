"""Text blobs of a model, byte for byte as Go's encoder writes them."""

from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.layers import decode_params, encode_messages, encode_params


def test_messages_have_their_fields_in_the_order_of_gos_structs() -> None:
    call = {"type": "function", "function": {"arguments": {"z": 1.0, "a": [1e-7]}, "name": "f"}, "id": "c"}
    messages: list[dict[str, Any]] = [
        {"tool_calls": [call], "content": "", "thinking": "<hm>", "role": "Assistant", "images": ["AQL/"]},
        {"tool_name": "f", "role": "tool", "content": "é\u2028\x01", "tool_call_id": "c", "other": 1},
        {"content": "hi", "role": "USER", "thinking": "", "images": [], "tool_calls": None},
    ]
    assert encode_messages(messages) == (
        b'[{"role":"assistant","content":"","thinking":"\\u003chm\\u003e","images":["AQL/"],"tool_calls":'
        b'[{"id":"c","function":{"index":0,"name":"f","arguments":{"z":1,"a":[1e-7]}}}]},'
        b'{"role":"tool","content":"\xc3\xa9\\u2028\\u0001","tool_name":"f","tool_call_id":"c"},'
        b'{"role":"user","content":"hi"}]\n'
    )


@pytest.mark.parametrize(
    "message", [{"role": 1}, {"images": ["!"]}, {"tool_calls": [{"function": {"arguments": "x"}}]}]
)
def test_messages_of_the_wrong_type_are_rejected(message: dict[str, Any]) -> None:
    with pytest.raises(OllamaError) as caught:
        encode_messages([message])
    assert caught.value.status == 400


def test_parameters_are_sorted_by_bytes_and_escaped() -> None:
    params = {"stop": ["<|im_end|>", "&\u2029\x7f\b"], "Z": 1e6, "a_b": 2**62, "a": {"y": -0.0, "x": None}}
    assert encode_params(params) == (
        b'{"Z":1000000,"a":{"x":null,"y":-0},"a_b":4611686018427388000,'
        b'"stop":["\\u003c|im_end|\\u003e","\\u0026\\u2029\x7f\\b"]}\n'
    )


@pytest.mark.parametrize(
    "data", [b"[]", b'{"stop":"\xff"}', pytest.param(b'{"x":' * 100_000, id="nested too deeply")]
)
def test_invalid_parameters_of_a_base_model(data: bytes) -> None:
    with pytest.raises(OllamaError, match=r"^the parameters of the base model cannot be read$"):
        decode_params(data)
