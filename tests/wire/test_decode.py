import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode, decode_base64


class Message(msgspec.Struct):
    role: str = ""
    content: str = ""
    images: list[bytes] = []
    arguments: dict[str, Any] = {}


class Node(msgspec.Struct):
    name: str = ""
    below: list["Node"] = []


class Request(msgspec.Struct):
    model: str = ""
    stream: bool | None = None
    think: bool | str | None = None
    top_k: int = 0
    keep_alive: Any = "unset"
    messages: list[Message] = []
    words: list[str] = []
    options: dict[str, Any] = {}
    named: dict[str, Message] = {}
    one: Message | None = None
    tree: Node | None = None
    renamed: str = msgspec.field(name="_debug", default="")


def read(body: bytes | str) -> Request:
    return decode(body.encode() if isinstance(body, str) else body, Request, go_type="api.ChatRequest")


def refusal(body: bytes | str) -> str:
    with pytest.raises(OllamaError) as caught:
        read(body)
    assert caught.value.status == 400
    return caught.value.message


def test_plain_request() -> None:
    request = read('{"model":"m","stream":false,"messages":[{"role":"user","content":"hi"}],"_debug":"x"}')
    assert request == Request(
        model="m", stream=False, messages=[Message(role="user", content="hi")], renamed="x"
    )


def test_keys_in_any_case_at_every_level() -> None:
    request = read(
        '{"MODEL":"m","Top_K":3,"Messages":[{"ROLE":"user"}],"Named":{"Key":{"Content":"c"}},'
        '"ONE":{"Role":"r"},"tree":{"NAME":"a","Below":[{"Name":"b"}]}}'
    )
    assert request == Request(
        model="m",
        top_k=3,
        messages=[Message(role="user")],
        named={"Key": Message(content="c")},
        one=Message(role="r"),
        tree=Node(name="a", below=[Node(name="b")]),
    )


def test_last_spelling_of_a_key_wins() -> None:
    assert read('{"model":"a","Model":"b"}').model == "b"


def test_contents_of_plain_dictionaries_are_untouched() -> None:
    request = read(
        '{"options":{"Temperature":null,"z":1,"A":{"Role":2}},'
        '"messages":[{"arguments":{"City":null,"a":[null]}}]}'
    )
    assert request.options == {"Temperature": None, "z": 1, "A": {"Role": 2}}
    assert list(request.options) == ["Temperature", "z", "A"]
    assert request.messages[0].arguments == {"City": None, "a": [None]}


@pytest.mark.parametrize(
    "body", ["null", "{}", ' {"unknown":[1,{"model":2}]} ', '{"model":null,"think":null}']
)
def test_nulls_and_unknown_fields_count_as_absent(body: str) -> None:
    assert read(body) == Request()


def test_null_is_kept_in_a_field_of_any_type() -> None:
    assert read('{"keep_alive":null}').keep_alive is None
    assert read("{}").keep_alive == "unset"


def test_null_in_an_array_is_the_zero_value() -> None:
    request = read('{"messages":[null,{"role":"user"}],"words":["a",null]}')
    assert request.messages == [Message(), Message(role="user")]
    assert request.words == ["a", ""]


@pytest.mark.parametrize("rest", ["x", " garbage", "{", "\n{}", "]", '"', "\x00"])
def test_data_after_the_first_value_is_ignored(rest: str) -> None:
    assert read('{"model":"m"}' + rest).model == "m"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a\xffb"}', "a\ufffdb"),
        (b'{"model":"\xe2\x82"}', "\ufffd\ufffd"),
        (b'{"model":"\xed\xa0\x80"}', "\ufffd\ufffd\ufffd"),
        (rb'{"model":"\ud800"}', "\ufffd"),
        (rb'{"model":"\udc00\ud83d"}', "\ufffd\ufffd"),
        (rb'{"model":"\ud800A\ud83d\ude00"}', "\ufffdA\U0001f600"),
        (rb'{"model":"\\ud800\ud800"}', "\\ud800\ufffd"),
        (b'{"model":"\\ud800\xff"} rest', "\ufffd\ufffd"),
    ],
)
def test_invalid_text_becomes_replacement_characters(body: bytes, model: str) -> None:
    assert read(body).model == model


@pytest.mark.parametrize("body", ["", " ", "\n\t\r "])
def test_missing_body(body: str) -> None:
    assert refusal(body) == "missing request body"


def test_missing_body_in_another_dialect() -> None:
    with pytest.raises(OllamaError, match=r"\AEOF\Z"):
        decode(b"", Request, go_type="openai.ChatCompletionRequest", empty="EOF")


@pytest.mark.parametrize("body", ["{", '{"model"', '{"model":"m', '{"messages":[', "tru"])
def test_truncated_body(body: str) -> None:
    assert refusal(body) == "unexpected EOF"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{x:1}", "the request body is not valid JSON: object keys must be strings at byte 1"),
        ('{"model" "m"}', "the request body is not valid JSON: expected ':' at byte 9"),
        ('{"a":NaN}', "the request body is not valid JSON: invalid character at byte 5"),
        ('{"a":1e999}', "the request body has a number that is out of range"),
        ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        ('"x"', "json: cannot unmarshal string into Go value of type api.ChatRequest"),
        ("1.5", "json: cannot unmarshal number into Go value of type api.ChatRequest"),
        ("true", "json: cannot unmarshal bool into Go value of type api.ChatRequest"),
        ('{"stream":"yes"}', '"stream" must be a boolean, not a string'),
        ('{"think":[]}', '"think" must be a boolean or a string, not an array'),
        ('{"top_k":1.5}', '"top_k" must be an integer, not a decimal number'),
        ('{"top_k":1.0}', '"top_k" must be an integer, not a decimal number'),
        ('{"messages":{}}', '"messages" must be an array, not an object'),
        ('{"MESSAGES":[{},{"Role":7}]}', '"messages[1].role" must be a string, not a number'),
        ('{"messages":["x"]}', '"messages[0]" must be an object, not a string'),
        (
            '{"messages":[{"images":[true]}]}',
            '"messages[0].images[0]" must be a base64 string, not a boolean',
        ),
        ('{"options":[]}', '"options" must be an object, not an array'),
    ],
)
def test_errors_name_the_field_and_the_expected_type(body: str, text: str) -> None:
    assert refusal(body) == text


@pytest.mark.parametrize(
    "bomb", ["[" * 100_000, '{"a":' * 100_000, '{"options":{"a":' + "[" * 300 + "]" * 300 + "}}"]
)
def test_deep_nesting_is_refused(bomb: str) -> None:
    assert refusal(bomb) == "the request body nests deeper than 256 levels"


def test_many_brackets_without_nesting_are_accepted() -> None:
    request = read('{"options":{"a":[' + ",".join(["[]"] * 1000) + "]}}")
    assert request.options["a"] == [[]] * 1000


def test_images() -> None:
    request = read('{"messages":[{"images":["aGk=","aG\\r\\nk=",[104,105],[]]}]}')
    assert request.messages[0].images == [b"hi", b"hi", b"hi", b""]
    assert read('{"messages":[{"images":["data:image/png;base64,aGk="]}]}').messages[0].images == [b"hi"]
    assert refusal('{"messages":[{"images":["data:image/png,iVBOR"]}]}') == (
        "illegal base64 data at input byte 4"
    )
    assert refusal('{"messages":[{"images":[[256]]}]}') == (
        '"messages[0].images[0]" must be a base64 string, not an array'
    )


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("a", 0),
        ("aGk", 0),
        ("aGkhaG", 4),
        ("aGk=x", 4),
        ("aGk==", 4),
        ("=", 0),
        ("a===", 1),
        ("aa=", 3),
        ("aa=a", 2),
        ("aa==aa==", 4),
        ("aGkh-GkA", 4),
        ("aG k", 2),
        ("aG\nkh!", 5),
        ("aGkhé", 4),
    ],
)
def test_invalid_base64_is_reported_at_gos_offset(text: str, offset: int) -> None:
    with pytest.raises(OllamaError) as caught:
        decode_base64(text)
    assert caught.value.status == 400
    assert caught.value.message == f"illegal base64 data at input byte {offset}"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_base64_round_trip(data: bytes) -> None:
    assert decode_base64(base64.encodebytes(data).decode()) == data


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]":,\\u d8model1.e-n', max_size=40)))
def test_any_body_gives_a_request_or_400(body: bytes | str) -> None:
    try:
        outcome: Request | OllamaError = read(body)
    except OllamaError as error:
        outcome = error
    assert isinstance(outcome, Request) or (outcome.status == 400 and outcome.message)
