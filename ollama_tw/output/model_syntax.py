"""Syntax of a model's thinking and tool calls, as data for the stream parser.

A new model family takes a new value here; a new notation of calls takes a new :class:`Form` and its
reader in ``call_forms.py``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType


class Form(Enum):
    """Notation between the tags of a call."""

    JSON = auto()
    """Objects with their function's name, single, in sequence or in an array; or a name, then arguments."""
    XML = auto()
    """``<function=NAME><parameter=KEY>value</parameter>…</function>``."""
    PYTHON = auto()
    """``[NAME(KEY=value, …), …]``, with or without the brackets."""
    ARG_KEYS = auto()
    """``NAME<arg_key>KEY</arg_key><arg_value>value</arg_value>…``."""


@dataclass(frozen=True)
class ThinkingSyntax:
    """Tags of the thinking at the beginning of a reply."""

    open: str
    close: str
    starts_open: bool = False
    """The prompt ended with the opening tag: the reply begins with thinking."""
    calls: bool = False
    """Tagged calls are parsed inside too: the model may omit the closing tag before them."""


@dataclass(frozen=True)
class CallSyntax:
    """Position and notation of calls. The opening tag does not begin with white space."""

    open: str
    """Opening tag, or the first bracket of the calls themselves (``{`` or ``[``)."""
    close: str | None = None
    """Closing tag, removed where the model writes it; only the JSON form may have none."""
    form: Form = Form.JSON
    leading: bool = False
    """The content must begin with the first call; otherwise it contains no calls."""
    marker: str | None = None
    """Tag that may precede a leading call."""
    name_keys: tuple[str, ...] = ("name", "function", "tool_name")
    argument_keys: tuple[str, ...] = ("arguments", "parameters")
    name_end: str = ""
    """Text that may stand, apart from white space, between a name and its arguments."""

    def __post_init__(self) -> None:
        if self.form is not Form.JSON and not self.close:
            raise ValueError("only calls in the JSON form may have no closing tag")


@dataclass(frozen=True)
class Syntax:
    """Syntax of a reply; without thinking and calls all text is content."""

    thinking: ThinkingSyntax | None = None
    calls: CallSyntax | None = None
    trim: bool = False
    """White space at the end of thinking and around calls is dropped."""

    def after(self, prompt: str) -> "Syntax":
        """Return this syntax for the reply to the rendered ``prompt``, which may end with the opening tag.

        Source: ollama: server/routes.go, ChatHandler.
        """
        if self.thinking is None:
            return self
        opened = prompt.rstrip().endswith(self.thinking.open)
        return replace(self, thinking=replace(self.thinking, starts_open=opened))


_THINKING = (
    ThinkingSyntax("<think>", "</think>"),
    ThinkingSyntax("<thinking>", "</thinking>"),
    ThinkingSyntax("<thought>", "</thought>"),
    ThinkingSyntax("<reasoning>", "</reasoning>"),
    ThinkingSyntax("<seed:think>", "</seed:think>"),
    ThinkingSyntax("[THINK]", "[/THINK]"),
    ThinkingSyntax("<|START_THINKING|>", "<|END_THINKING|>"),
)

_BARE = CallSyntax("{", leading=True)
_HERMES = CallSyntax("<tool_call>", "</tool_call>")
_XML = CallSyntax("<tool_call>", "</tool_call>", Form.XML)
_ARG_KEYS = CallSyntax("<tool_call>", "</tool_call>", Form.ARG_KEYS)
_LFM2 = CallSyntax("<|tool_call_start|>", "<|tool_call_end|>", Form.PYTHON)
_TAGGED = (
    _HERMES,
    _LFM2,
    CallSyntax("<function_calls>", "</function_calls>", Form.PYTHON),
    CallSyntax("<|tool_call|>", "<|/tool_call|>"),
    CallSyntax("[TOOL_CALLS]", "[/TOOL_CALLS]", name_end="[ARGS]"),
    CallSyntax("<TOOLCALL>", "</TOOLCALL>"),
    CallSyntax("<|START_ACTION|>", "<|END_ACTION|>"),
    CallSyntax("<function_call>", "</function_call>"),
)
_PYTHON_TAG = "<|python_tag|>"

_THINK = ThinkingSyntax("<think>", "</think>", calls=True)
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
    """Return the syntax for the tags of a Go template.

    ``tag`` begins tool calls: ``{`` if the template contains no other, empty or None for no calls.

    Source: ollama: tools/tools.go, NewParser; thinking/parser.go, Parser.
    """
    thinking = ThinkingSyntax(thinking_open, thinking_close) if thinking_open and thinking_close else None
    return Syntax(thinking, _calls(tag) if tag else None)


def from_chat_template(source: str) -> Syntax:
    """Return the syntax for the tags that the source of a Jinja chat template contains.

    The closing tag of thinking suffices, since templates remove thinking from the history by it. A
    template with tools but without a known tag belongs to a model that writes calls as bare JSON.
    """
    thinking = next((each for each in _THINKING if each.close in source), None)
    if thinking is not None:
        thinking = replace(thinking, calls=True)
    return Syntax(thinking, _calls_of_chat_template(source), trim=True)


def by_name(name: str) -> Syntax | None:
    """Return the syntax of the built-in parser ``name`` of a model's configuration; None if unknown.

    Source: ollama: model/parsers/parsers.go, ParserForName.
    """
    return _BY_NAME.get(name)


def _calls_of_chat_template(source: str) -> CallSyntax | None:
    if "tools" not in source and "tool_call" not in source:
        return None
    if _HERMES.open in source:
        return _XML if "<function=" in source else _ARG_KEYS if "<arg_key>" in source else _HERMES
    for calls in _TAGGED:
        if calls.open in source:
            return calls
    return replace(_BARE, marker=_PYTHON_TAG) if _PYTHON_TAG in source else _BARE


def _calls(tag: str) -> CallSyntax:
    """Return the syntax for ``tag``.

    Brackets at the end of a tag belong to the calls, since models vary the white space before them.
    """
    bare = tag.rstrip("[ \t\r\n")
    if not bare:
        return CallSyntax("[", leading=True)
    if bare == "{":
        return _BARE
    for calls in _TAGGED:
        if calls.open == bare:
            return calls
    return CallSyntax(bare, _closing(bare))


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
