"""The shape of messages that a chat template reads, found by trial renderings.

A conversation of words that stand nowhere else is rendered in different shapes; the shape of which most
words come out is the template's. Source: llama.cpp: common/jinja/caps.cpp, caps_get, with the same aim.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from ollama_tw.templates.template_messages import MessageShape, template_messages
from ollama_tw.templates.trial import FoundOnce, Trial, trial_of
from ollama_tw.templates.variables import SWITCHES
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

SYSTEM: Final = "Gargoyle mandate"
USER: Final = "Quixotic plum"
ANSWER: Final = "Zephyr hum"
THOUGHT: Final = "Jackdaw musing"
RESULT: Final = "Flax wobble"
FUNCTION: Final = "vexing_job"
ARGUMENT: Final = "knob"
VALUE: Final = "Yonder cliff"
LONG_ID: Final = "call_0123456789abcdef"
THINKING_ON: Final = dict.fromkeys(SWITCHES, True)

TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": FUNCTION,
        "description": "Wicker basket",
        "parameters": {
            "type": "object",
            "properties": {ARGUMENT: {"type": "string", "description": "Umber"}},
            "required": [ARGUMENT],
        },
    },
}

_THINKING_KEYS = ("reasoning_content", "thinking", "reasoning", "thought")
_UNKNOWN_ROLE = "xylem"
_PRINTED_PART = re.compile(r"""["']type["']""")


def user(text: str = USER) -> Message:
    """Return a message of the user."""
    return Message("user", text)


def answer(text: str = ANSWER, thinking: str = "") -> Message:
    """Return a message of the model."""
    return Message("assistant", text, thinking=thinking)


def calling(text: str = "", thinking: str = "", ids: Sequence[str] = (LONG_ID,)) -> Message:
    """Return a message of the model with a call for each of ``ids``."""
    function = ToolCallFunction(name=FUNCTION, arguments={ARGUMENT: VALUE})
    calls = [ToolCall(id=call_id, function=function) for call_id in ids]
    return Message("assistant", text, thinking=thinking, tool_calls=calls)


def result(call_id: str = LONG_ID, text: str = RESULT) -> Message:
    """Return a message with the result of a call."""
    return Message("tool", text, tool_name=FUNCTION, tool_call_id=call_id)


@FoundOnce
def find_shape(source: str) -> MessageShape:
    """Return the shape for the template ``source``. Raises :class:`TemplateError` if it does not compile."""
    trial = trial_of(source)
    shape = MessageShape()
    for find in (_content, _system, _calls, _results, _thinking, _one_text):
        shape = find(trial, shape)
    return shape


def shaped(trial: Trial, shape: MessageShape, messages: Sequence[Message], **options: Any) -> str:
    """Return the prompt of ``messages`` in ``shape``, empty if the template refuses them."""
    return trial.render(template_messages(messages, shape), **options) or ""


def _content(trial: Trial, shape: MessageShape) -> MessageShape:
    if USER in shaped(trial, shape, [user()]):
        return shape
    parts = replace(shape, content_parts=True)
    return parts if USER in shaped(trial, parts, [user()]) else shape


def _system(trial: Trial, shape: MessageShape) -> MessageShape:
    shown = SYSTEM in shaped(trial, shape, [Message("system", SYSTEM), user()])
    return shape if shown else replace(shape, system_role=False)


def _calls(trial: Trial, shape: MessageShape) -> MessageShape:
    """Choose the shape in which most of a call is rendered: of content, arguments and ids.

    Content None is better if more of the call is rendered, or the same with less around it, since a template
    that does not expect it prints its name.
    """

    def rendered(candidate: MessageShape, call_id: str = LONG_ID) -> tuple[int, str]:
        messages = [user(), calling(ids=[call_id]), result(call_id)]
        text = shaped(trial, candidate, messages, tools=[TOOL])
        _, _, history = text.partition(USER)
        return sum(word in history for word in (FUNCTION, VALUE, RESULT)), history

    best = shape
    if not all(rendered(shape, call_id)[0] for call_id in (LONG_ID, "a1")):
        short = replace(shape, short_ids=True)
        best = short if rendered(short)[0] else shape
    elif not rendered(shape, "")[0]:
        best = replace(shape, ids=True)
    most, text = rendered(best)
    null = replace(best, null_content=True)
    shown, other = rendered(null)
    if shown > most or (shown == most and FUNCTION in other and len(other) < len(text)):
        best, most = null, shown
    if most < 2:
        texts = replace(best, text_arguments=True)
        if rendered(texts)[0] > most:
            best = texts
    return best


def _results(trial: Trial, shape: MessageShape) -> MessageShape:
    """Fold results into the turn of the model if the template has no role for them but a key."""
    if "tool_responses" not in trial.source:
        return shape
    plain = template_messages([user(), calling(), result()], shape)
    unknown = [*plain[:-1], {**plain[-1], "role": _UNKNOWN_ROLE}]
    known, other = (trial.render(each, tools=[TOOL]) for each in (plain, unknown))
    if known is not None and other is not None and known != other.replace(_UNKNOWN_ROLE, "tool"):
        return shape
    folded = replace(shape, folded_results=True)
    return folded if RESULT in shaped(trial, folded, [user(), calling(), result()], tools=[TOOL]) else shape


def _thinking(trial: Trial, shape: MessageShape) -> MessageShape:
    """Give earlier thinking under all keys that the template reads, or else as blocks of the content."""
    found = [key for key in _THINKING_KEYS if key in trial.source]
    keys = tuple(key for key in found if _times_shown(trial, replace(shape, thinking_keys=(key,))))
    if keys:
        once = replace(shape, thinking_keys=keys[:1])
        all_keys = replace(shape, thinking_keys=keys)
        return all_keys if _times_shown(trial, all_keys) == _times_shown(trial, once) else once
    blocks = replace(shape, thinking_blocks=True)
    return blocks if "thinking" in trial.source and _times_shown(trial, blocks) else shape


def _times_shown(trial: Trial, shape: MessageShape) -> int:
    texts = [
        shaped(trial, shape, messages, tools=tools, **THINKING_ON)
        for messages, tools in (
            ([user(), answer(thinking=THOUGHT)], ()),
            ([user(), calling(thinking=THOUGHT), result()], [TOOL]),
            ([user(), answer(thinking=THOUGHT), user()], ()),
        )
    ]
    # A template that prints its content as it is shows the list, not the thinking.
    histories = [text.partition(USER)[2] for text in texts]
    return max(0 if _PRINTED_PART.search(text) else text.count(THOUGHT) for text in histories)


def _one_text(trial: Trial, shape: MessageShape) -> MessageShape:
    messages = [user(), calling(ANSWER, THOUGHT), result()]
    if not shape.thinking_keys or shaped(trial, shape, messages, tools=[TOOL], **THINKING_ON):
        return shape
    one = replace(shape, one_text_beside_calls=True)
    return one if shaped(trial, one, messages, tools=[TOOL], **THINKING_ON) else shape
