"""Filters of chat templates that differ from Jinja's, and the charges for growing values.

A result is charged to the budget of the rendering before it is built, where it can be much larger than the
arguments.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from jinja2 import Undefined, pass_context
from jinja2.runtime import Context
from markupsafe import escape

from ollama_tw.templates.budget import LimitExceeded, current, weigh
from ollama_tw.templates.growing import GrowingList, settled

_MAX_INTEGER_BITS = 4096
_MAX_INDENT = 64

# A width or precision of four digits, or one taken from the arguments.
# A name of more than 200 characters counts as a width, so that no text is searched again and again.
_WIDE_PERCENT = re.compile(r"%(\([^)]{0,200}\))?[-+ #0]*(\*|\d{4}|\d*\.(\*|\d{4}))|%\([^)]{201}")


def too_large() -> LimitExceeded:
    """Return the error of a number that is too large."""
    return LimitExceeded("the chat template computes a number that is too large")


def reserve_replacement(text: str, old: Any = "", new: Any = "", *_count: Any) -> None:
    """Charge the result of ``str.replace``."""
    current().reserve(len(text) + text.count(str(old)) * len(str(new)))


def reserve_joined(values: Any, separator: str) -> list[Any]:
    """Return the values as a list, and charge the text that joins them."""
    items = list(values)
    current().reserve(weigh(items) + len(items) * len(separator))
    return items


def reserve_product(left: Any, right: Any) -> None:
    """Charge the result of ``*``."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
            raise too_large()
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(times, int):
            current().reserve(weigh(value) * max(times, 0))


def reserve_power(left: Any, right: Any) -> None:
    """Raise :class:`LimitExceeded` if the result of ``**`` is too large."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_INTEGER_BITS:
        raise too_large()


def reserve_percent(text: str, values: Any) -> None:
    """Charge the result of formatting ``text`` with ``%``."""
    if _WIDE_PERCENT.search(text):
        raise LimitExceeded("the chat template formats with a width that is too large")
    current().reserve(len(text) + text.count("%") * (weigh(values) + 1000))


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text = str(value)
    reserve_replacement(text, old, new)
    return text.replace(str(old), str(new), -1 if count is None else count)


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    items = list(value)
    if attribute is not None:
        items = [context.environment.getitem(item, attribute) for item in items]
    return str(d).join(map(str, reserve_joined(items, str(d))))


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(width, _MAX_INDENT)
    text = str(value)
    current().reserve(len(text) + (text.count("\n") + 1) * len(margin))
    lines = (text + "\n").splitlines()
    indented = [line if i == 0 or not (line or blank) else margin + line for i, line in enumerate(lines)]
    return (margin if first else "") + "\n".join(indented)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    text = str(value)
    reserve_percent(text, kwargs or args)
    return text % (kwargs or args)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as Hugging Face's chat templates expect it: no HTML escapes, keys in their order."""
    if indent is not None:
        indent = min(indent, _MAX_INDENT)
        current().reserve(weigh(value) * (1 + indent))
    if separators is not None:
        current().reserve(weigh(value) * (1 + weigh(separators) // 16))
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: Any) -> list[Any]:
    """Return the elements of an iterable that is no list, such as what ``map`` and ``items`` give."""
    if isinstance(value, Undefined) or not isinstance(value, Iterable):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    items = list(value)
    current().reserve(weigh(items))
    return items


def _fromjson(value: Any) -> Any:
    return json.loads(str(value))


def concat(values: list[Any]) -> str:
    """Return the result of ``~``."""
    return "".join(map(str, reserve_joined(values, "")))


def _safe(value: Any) -> Any:
    """Return ``value``: a chat template is no HTML, so nothing is escaped."""
    return value


def _escape(value: Any) -> str:
    """Return the HTML-escaped text, not marked as such: Jinja would escape what is added to it."""
    return str(escape(str(value)))


def _list(value: Any) -> list[Any]:
    return GrowingList(map(settled, value))


OWN_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "replace": _replace,
    "join": _join,
    "indent": _indent,
    "format": _format,
    "tojson": _tojson,
    "fromjson": _fromjson,
    "from_json": _fromjson,
    "list": _list,
    "safe": _safe,
    "escape": _escape,
    "e": _escape,
    "forceescape": _escape,
}
