"""How a model marks its thinking and its tool calls, as data for the stream parser.

A new family is a new value here; a new way to write one call is a new :class:`Form` and its
reader in ``call_forms.py``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType


class Form(Enum):
    """What stands between the tags of a call."""

    JSON = auto()
    """Objects that name their function, alone, in a row or in an array; or a name and then its arguments."""
    XML = auto()
    """``<function=NAME><parameter=KEY>value</parameter>…</function>``."""
    PYTHON = auto()
    """``[NAME(KEY=value, …), …]``, with or without the brackets."""
    ARG_KEYS = auto()
    """``NAME<arg_key>KEY</arg_key><arg_value>value</arg_value>…``."""


@dataclass(frozen=True)
class Thinking:
    """Thinking stands at the very beginning of a reply, between two tags."""

    open: str
    close: str
    starts_open: bool = False
    """The prompt ended with the opening tag: the reply begins inside."""
    calls: bool = False
    """Tagged calls are looked for inside as well: the model may forget the closing tag before them."""


@dataclass(frozen=True)
class Calls:
    """Where calls stand and how they are written. The opening tag begins with no white space."""

    open: str
    """A tag, or the first bracket of the calls themselves (``{`` or ``[``)."""
    close: str | None = None
    """Taken off where the model writes it; only the JSON form can do without."""
    form: Form = Form.JSON
    leading: bool = False
    """The first call must be the first thing in the content: any other text before it means no calls."""
    marker: str | None = None
    """A tag that may stand before a leading call."""
    name_keys: tuple[str, ...] = ("name", "function", "tool_name")
    argument_keys: tuple[str, ...] = ("arguments", "parameters")
    name_end: str = ""
    """What may stand, white space aside, between a name and the arguments that follow it."""

    def __post_init__(self) -> None:
        if self.form is not Form.JSON and not self.close:
            raise ValueError("only calls in the JSON form can do without a closing tag")


@dataclass(frozen=True)
class Syntax:
    """What a stream parser looks for; neither of both means that all text is content."""

    thinking: Thinking | None = None
    calls: Calls | None = None
    trim: bool = False
    """White space at the end of thinking and around calls is dropped."""

    def after(self, prompt: str) -> "Syntax":
        """This syntax for the reply to the rendered ``prompt``, which may have opened the thinking.

        Source: ``spec/inference-api.md`` section 12.
        """
        if self.thinking is None:
            return self
        opened = prompt.rstrip().endswith(self.thinking.open)
        return replace(self, thinking=replace(self.thinking, starts_open=opened))


_THINKING = (
    Thinking("<think>", "</think>"),
    Thinking("<thinking>", "</thinking>"),
    Thinking("<thought>", "</thought>"),
    Thinking("<reasoning>", "</reasoning>"),
    Thinking("<seed:think>", "</seed:think>"),
    Thinking("[THINK]", "[/THINK]"),
    Thinking("<|START_THINKING|>", "<|END_THINKING|>"),
)

_BARE = Calls("{", leading=True)
_HERMES = Calls("<tool_call>", "</tool_call>")
_XML = Calls("<tool_call>", "</tool_call>", Form.XML)
_ARG_KEYS = Calls("<tool_call>", "</tool_call>", Form.ARG_KEYS)
_LFM2 = Calls("<|tool_call_start|>", "<|tool_call_end|>", Form.PYTHON)
_TAGGED = (
    _HERMES,
    _LFM2,
    Calls("<function_calls>", "</function_calls>", Form.PYTHON),
    Calls("<|tool_call|>", "<|/tool_call|>"),
    Calls("[TOOL_CALLS]", "[/TOOL_CALLS]", name_end="[ARGS]"),
    Calls("<TOOLCALL>", "</TOOLCALL>"),
    Calls("<|START_ACTION|>", "<|END_ACTION|>"),
    Calls("<function_call>", "</function_call>"),
)
_PYTHON_TAG = "<|python_tag|>"

_THINK = Thinking("<think>", "</think>", calls=True)
_THINK_FROM_START = replace(_THINK, starts_open=True)
_BY_NAME: Mapping[str, Syntax] = MappingProxyType(
    {
        "passthrough": Syntax(),
        "glm-4.7": Syntax(_THINK_FROM_START, _ARG_KEYS, trim=True),
        "glm-ocr": Syntax(_THINK, _ARG_KEYS, trim=True),
        "lfm2": Syntax(None, _LFM2, trim=True),
        "lfm2-thinking": Syntax(_THINK, _LFM2, trim=True),
        "nemotron-3-nano": Syntax(_THINK_FROM_START, _XML, trim=True),
        "nemotron-3.5-nano": Syntax(_THINK_FROM_START, _XML, trim=True),
        "ornith": Syntax(_THINK_FROM_START, _XML, trim=True),
        "qwen3": Syntax(_THINK, _HERMES, trim=True),
        "qwen3-coder": Syntax(None, _XML, trim=True),
        "qwen3-thinking": Syntax(_THINK_FROM_START, _HERMES, trim=True),
        "qwen3-vl-instruct": Syntax(None, _HERMES, trim=True),
        "qwen3-vl-thinking": Syntax(_THINK_FROM_START, _HERMES, trim=True),
        "qwen3.5": Syntax(_THINK_FROM_START, _XML, trim=True),
    }
)


def from_template(
    tag: str | None, thinking_open: str | None = None, thinking_close: str | None = None
) -> Syntax:
    """The syntax of a Go template, from what was inferred of it: the tool-call tag (``{`` where the
    template shows no other; empty or None without calls) and the two thinking tags.

    Source: ``spec/inference-api.md`` sections 11 and 12.
    """
    thinking = Thinking(thinking_open, thinking_close) if thinking_open and thinking_close else None
    return Syntax(thinking, _calls(tag) if tag else None)


def from_chat_template(source: str) -> Syntax:
    """The syntax of a Jinja chat template, from the tags that its source mentions.

    The closing tag of thinking is enough, since templates cut thinking out of the history by it. A
    template that shows tools without a known tag belongs to a model that answers in bare JSON.
    """
    thinking = next((each for each in _THINKING if each.close in source), None)
    if thinking is not None:
        thinking = replace(thinking, calls=True)
    return Syntax(thinking, _calls_of_chat_template(source), trim=True)


def by_name(name: str) -> Syntax | None:
    """The syntax of the family parser ``name`` of a model's configuration, None for an unknown one.

    Source: ``spec/inference-api.md`` section 13.
    """
    return _BY_NAME.get(name)


def _calls_of_chat_template(source: str) -> Calls | None:
    if "tools" not in source and "tool_call" not in source:
        return None
    if _HERMES.open in source:
        return _XML if "<function=" in source else _ARG_KEYS if "<arg_key>" in source else _HERMES
    for calls in _TAGGED:
        if calls.open in source:
            return calls
    return replace(_BARE, marker=_PYTHON_TAG) if _PYTHON_TAG in source else _BARE


def _calls(tag: str) -> Calls:
    """Brackets at the end of a tag belong to the calls: models are not true to the space before them."""
    bare = tag.rstrip("[ \t\r\n")
    if not bare:
        return Calls("[", leading=True)
    if bare == "{":
        return _BARE
    for calls in _TAGGED:
        if calls.open == bare:
            return calls
    return Calls(bare, _closing(bare))


def _closing(tag: str) -> str | None:
    fence = re.search(r"```\w*$", tag)
    if fence:
        return "```"
    element = re.search(r"<(\w[^<>|\s]*)>$", tag)
    if element:
        return f"</{element[1]}>"
    if tag.startswith("<") and tag.endswith(">"):
        for beginning, end in (("start", "end"), ("begin", "end"), ("START", "END"), ("BEGIN", "END")):
            if beginning in tag:
                return tag.replace(beginning, end)
    return None
