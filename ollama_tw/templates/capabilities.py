"""The capabilities of a chat template: what it renders, and what its model's replies may contain.

Source: llama.cpp: common/jinja/caps.cpp, caps_get, has the idea.
"""

from dataclasses import dataclass
from typing import Literal

from ollama_tw.output.description import Description
from ollama_tw.templates.reply_description import describe
from ollama_tw.templates.sandbox import JsonObject
from ollama_tw.templates.shapes import (
    ARGUMENT,
    FUNCTION,
    LONG_ID,
    RESULT,
    SYSTEM,
    THOUGHT,
    TOOL,
    USER,
    VALUE,
    answer,
    calling,
    find_shape,
    result,
    shaped,
    user,
)
from ollama_tw.templates.template_messages import MessageShape, template_messages, text_part
from ollama_tw.templates.thinking_controls import ThinkingControls, find_controls
from ollama_tw.templates.trial import FoundOnce, Trial, trial_of
from ollama_tw.templates.variables import BUDGET, HISTORY_DROPS, HISTORY_KEEPS
from ollama_tw.wire.native import Message

ThinkingState = Literal["open", "closed", "none"]
"""State of thinking at the end of a prompt: opened, opened and closed, or neither."""


@dataclass(frozen=True)
class TemplateCapabilities:
    """The capabilities of one template."""

    tools: bool
    """The template shows tools or calls, or reads the tools of a model whose calls are known."""
    thinking: bool
    system_role: bool
    shows_tools: bool
    shows_calls_of_history: bool
    shows_results: bool
    """The results of calls are in the prompt."""
    parallel_calls: bool
    """A message may have several calls."""
    object_arguments: bool
    """The arguments of a call are read as an object, not as its text."""
    typed_content: bool
    """Content may be a list of parts."""
    typed_content_only: bool
    switches: tuple[str, ...]
    """Variables that turn thinking on and off."""
    levels: tuple[str, ...]
    """Variables that take the word of a level."""
    history_switches: tuple[str, ...]
    """Variables that keep or drop the thinking of earlier turns."""
    after_generation_prompt: tuple[ThinkingState, ThinkingState] | None
    """With thinking on and off; None for a model that does not think."""


@FoundOnce
def find_capabilities(source: str) -> TemplateCapabilities:
    """Return the capabilities of a template. Raises :class:`TemplateError` if it does not compile."""
    trial, shape, controls = trial_of(source), find_shape(source), find_controls(source)
    description = describe(source)
    with_tool = shaped(trial, shape, [user()], tools=[TOOL])
    shows_tools = FUNCTION in with_tool and FUNCTION not in shaped(trial, shape, [user()])
    shown = _calls_shown(trial, shape, 1) > 0
    thinks = description.thinking is not None
    words = controls.words.items()
    return TemplateCapabilities(
        tools=shows_tools or shown or ("tools" in trial.variables and description.calls is not None),
        thinking=thinks,
        system_role=shape.system_role,
        shows_tools=shows_tools,
        shows_calls_of_history=shown,
        shows_results=RESULT in _round_trip(trial, shape, 1),
        parallel_calls=_calls_shown(trial, shape, 2) > 1 if shown else description.calls is not None,
        object_arguments=shown and _reads_objects(trial, shape),
        typed_content=_takes_parts(trial, shape),
        typed_content_only=shape.content_parts,
        switches=(
            *controls.switches,
            *(name for name, word in words if word.off is not None),
            *((BUDGET,) if controls.budget else ()),
        ),
        levels=tuple(name for name, word in words if word.levels),
        history_switches=_history_switches(trial, shape, controls),
        after_generation_prompt=_states(trial, shape, controls, description) if thinks else None,
    )


def _calls_shown(trial: Trial, shape: MessageShape, number: int) -> int:
    """Return how many calls of a message of the history with ``number`` calls are in the prompt."""
    history = _round_trip(trial, shape, number)
    return history.count(VALUE) if FUNCTION in history else 0


def _round_trip(trial: Trial, shape: MessageShape, number: int) -> str:
    """Return what the prompt has for a message with ``number`` calls and their results."""
    ids = [f"{LONG_ID}{i}" for i in range(number)]
    messages = [user(), calling(ids=ids), *(result(call_id) for call_id in ids)]
    return shaped(trial, shape, messages, tools=[TOOL]).partition(USER)[2]


def _reads_objects(trial: Trial, shape: MessageShape) -> bool:
    """Return whether arguments come out of a plain dictionary as out of one that prints itself as JSON."""

    def rendered(arguments: dict[str, str]) -> str | None:
        messages = template_messages([user(), calling(), result()], shape)
        for call in messages[1]["tool_calls"]:
            call["function"]["arguments"] = arguments
        return trial.render(messages, tools=[TOOL])

    plain = rendered({ARGUMENT: VALUE})
    return plain is not None and plain == rendered(JsonObject({ARGUMENT: VALUE}))


def _takes_parts(trial: Trial, shape: MessageShape) -> bool:
    text = shaped(trial, shape, [user()])
    return USER in text and trial.render([{"role": "user", "content": [text_part(USER)]}]) == text


def _history_switches(trial: Trial, shape: MessageShape, controls: ThinkingControls) -> tuple[str, ...]:
    messages = [user(), answer(thinking=THOUGHT), user(), answer(), user()]
    on = controls.variables(True)
    return tuple(
        name
        for name in (*HISTORY_KEEPS, *HISTORY_DROPS)
        if name in trial.variables
        and shaped(trial, shape, messages, **on, **{name: True})
        != shaped(trial, shape, messages, **on, **{name: False})
    )


def _states(
    trial: Trial, shape: MessageShape, controls: ThinkingControls, description: Description
) -> tuple[ThinkingState, ThinkingState]:
    def state(think: bool) -> ThinkingState:
        variables = controls.variables(think)
        messages = [Message("system", SYSTEM), user()] if shape.system_role else [user()]
        prompt = shaped(trial, shape, messages, generation=True, **variables)
        without = shaped(trial, shape, messages, **variables)
        tail = prompt.removeprefix(without) if without else prompt.rpartition(USER)[2]
        if description.opened(tail):
            return "open"
        closing = "" if description.thinking is None else description.thinking.close.strip()
        return "closed" if closing and closing in tail else "none"

    return state(True), state(False)
