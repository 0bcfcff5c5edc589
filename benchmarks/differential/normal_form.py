"""Form of a reply in which two servers are compared: what differs from run to run is replaced by its kind.

The order of keys stays. Times, durations, ids and sizes become marks such as ``<time>``. A stream becomes
the sequence of the shapes of its records, its texts joined, and its last record. Of a ``generated`` reply,
the text, the tokens and the counts of the output are marks, too.
"""

import json
import math
import re
from typing import Any

from benchmarks.differential.cases import Case
from benchmarks.differential.exchange import PREFIX, Reply

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?(Z|[+-]\d\d:\d\d)")
_ID = re.compile(r"(chatcmpl|cmpl|msg|resp|req|call|rs|fc|toolu)([-_]).+")
_STORE = re.compile(r"^((?:# )?(?:FROM|ADAPTER|DRAFT)) .*[/\\]blobs[/\\]", re.MULTILINE)
_TIME_KEYS = frozenset({"created_at", "modified_at", "expires_at"})
_SIZE_KEYS = frozenset({"size", "size_vram"})
_UNIX_KEYS = frozenset({"created", "completed_at"})
_TEXT_KEYS = frozenset({"response", "content", "thinking", "text", "reasoning", "arguments"})
_STREAMED = _TEXT_KEYS | {"status"}
_COUNT_KEYS = frozenset({"eval_count", "completion_tokens", "total_tokens", "output_tokens", "context"})
_LISTS = {"/api/tags": "models", "/api/ps": "models", "/v1/models": "data"}
"""Lists of the whole library, of which the models of the run are compared."""


def normal_form(case: Case, reply: Reply) -> dict[str, Any]:
    """Return the comparable form of ``reply`` to ``case``, a JSON value."""
    return {"status": reply.status, "headers": reply.headers, "body": _body(case, reply)}


def _body(case: Case, reply: Reply) -> Any:
    text = reply.body.decode("utf-8", "replace")
    kind = reply.headers.get("content-type", "")
    if kind.startswith("application/x-ndjson"):
        return _stream([_decoded(line) for line in text.splitlines()], case.generated)
    if kind.startswith("text/event-stream"):
        return _stream([_event(block) for block in text.split("\n\n") if block], case.generated)
    value = _decoded(text)
    if isinstance(value, dict) and isinstance(value.get(_LISTS.get(case.path, "")), list):
        value[_LISTS[case.path]] = _own(value[_LISTS[case.path]])
    return _normal(value, case.generated)


def _own(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the models of the run by name: those that were created within one tick have no order."""
    by_name = {str(model.get("id", model.get("name"))): model for model in models}
    return [by_name[name] for name in sorted(by_name) if name.startswith(PREFIX)]


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _event(block: str) -> Any:
    fields = [line.partition(": ")[::2] for line in block.split("\n")]
    return {name: _decoded(value) if name == "data" else value for name, value in fields}


def _stream(records: list[Any], generated: bool) -> Any:
    shapes: list[Any] = []
    texts: list[str] = []
    for record in records:
        shape = _shape(record)
        if shapes[-1:] != [shape]:
            shapes.append(shape)
        texts += _texts(record)
    return {
        "shapes": shapes,
        "text": "<text>" if generated else "".join(texts),
        "last": _normal(records[-1], generated) if records else None,
    }


def _shape(value: Any) -> Any:
    """Return the keys of ``value`` in their order, in depth; a list has the shape of its first item."""
    if isinstance(value, dict):
        return {key: _shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value[:1]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return value if value is None or isinstance(value, bool) else "text"


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if not isinstance(value, dict):
        return []
    found = []
    for key, member in value.items():
        found += [member] if key in _STREAMED and isinstance(member, str) else _texts(member)
    return found


def _normal(value: Any, generated: bool, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _normal(member, generated, name) for name, member in value.items()}
    if isinstance(value, list):
        if key == "logprobs" or (generated and key == "context"):
            return f"<{key}>" if value else []
        if len(value) > 1 and all(isinstance(item, float) for item in value):
            return {"floats": len(value), "norm": round(math.sqrt(sum(item * item for item in value)), 3)}
        return [_normal(item, generated, key) for item in value]
    if isinstance(value, str):
        return _normal_text(value, generated, key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.endswith("_duration"):
            return "<ns>" if value > 0 else value
        if key in _SIZE_KEYS:
            return "<bytes>" if value > 0 else value
        if key in _UNIX_KEYS:
            return "<unix>"
        if generated and key in _COUNT_KEYS:
            return "<count>"
    return value


def _normal_text(value: str, generated: bool, key: str) -> str:
    if key in _TIME_KEYS:
        return "<time>" if _TIME.fullmatch(value) else value
    if key == "modelfile":
        return _STORE.sub(r"\1 <blobs>/", value)
    if generated and key in _TEXT_KEYS:
        return "<text>" if value else value
    if key in ("id", "request_id", "item_id", "call_id", "tool_call_id") and (found := _ID.fullmatch(value)):
        return f"{found[1]}{found[2]}<id>"
    return value
