"""Completion of a description by marks of known families, where a template writes none of its own."""

from dataclasses import replace
from typing import Final

from ollama_tw.output import known_layouts
from ollama_tw.output.description import CallLayout, Description, Pair

# Replies of several messages, by phrases of their templates: their headers are no pairs of marks.
_TURNS: Final = (
    (("<|channel|>", "<|message|>", "<|start|>"), known_layouts.BY_NAME["harmony"]),
    (("to=self", "<|message|>", "<|eom|>"), known_layouts.BY_NAME["glimmer"]),
    ((">>>all", ">>>"), known_layouts.FUNCTIONARY),
)

_THINKING: Final = (
    Pair("<think>", "</think>"),
    Pair("<thinking>", "</thinking>"),
    Pair("<thought>", "</thought>"),
    Pair("<reasoning>", "</reasoning>"),
    Pair("[THINK]", "[/THINK]"),
    Pair("<|START_THINKING|>", "<|END_THINKING|>"),
    Pair("<|inner_prefix|>", "<|inner_suffix|>"),
)

# Calls that templates describe in words without writing any, by phrases of the templates.
_CALLS: Final = (
    (("<tool_call>", "<function="), known_layouts.QWEN_CODER),
    (("<tool_call>", "<arg_key>"), known_layouts.GLM),
    (("<tool_call>",), known_layouts.HERMES),
    (("List of tools:", "<|im_start|>"), known_layouts.LFM2),
    (("<|tool_call_start|>",), known_layouts.LFM2),
    (("<|tool_call|>",), CallLayout(section=Pair("<|tool_call|>", "<|/tool_call|>"), array=True)),
    (("[TOOL_CALLS]", "[ARGS]"), known_layouts.MINISTRAL),
    (("[TOOL_CALLS]",), CallLayout(section=Pair("[TOOL_CALLS]", ""), array=True)),
    (("<function_calls>",), known_layouts.OLMO3),
)
_PYTHON_TAG: Final = "<|python_tag|>"
_RESPONSE: Final = Pair("<response>", "</response>")


def completed(found: Description, source: str) -> Description:
    """Return ``found``, its unknown parts completed by the marks in a template's ``source``."""
    for phrases, turns in _TURNS:
        if all(phrase in source for phrase in phrases):
            return replace(turns, generation=found.generation)
    thinking = found.thinking or next((pair for pair in _THINKING if pair.close in source), None)
    content = found.content
    if content is not None and thinking is not None and content.open.strip() == thinking.close.strip():
        content = None  # what closes the thinking of a turn that has none
    if content is None and _RESPONSE.open + _RESPONSE.close in source:
        content = _RESPONSE
    calls = found.calls
    if calls is None and "tools" in source:
        calls = _known_calls(source)
    if calls is not None and calls.leads and _PYTHON_TAG in source:
        calls = replace(calls, section=Pair(_PYTHON_TAG), bare=True)
    return replace(found, thinking=thinking, content=content, calls=calls)


def _known_calls(source: str) -> CallLayout:
    """Return the layout whose phrases ``source`` contains; the model writes bare JSON if there is none."""
    for phrases, layout in _CALLS:
        if all(phrase in source for phrase in phrases):
            return layout
    return CallLayout()
