"""Chat templates in Jinja, the values of ``tokenizer.chat_template`` in GGUF files."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ollama_tw.templates.budget import Budget, LimitExceeded, TemplateError
from ollama_tw.templates.compiled import compile_template
from ollama_tw.templates.template_messages import TemplateNeeds, read_needs, template_messages
from ollama_tw.wire.native import Message

_SWITCHES: Final = ("enable_thinking", "thinking", "reasoning")
_LEVELS: Final = ("reasoning_effort", "reasoning_strength", "thinking_effort")
"""Variables by which templates turn thinking on or off, and by which they set its level."""

_TRIAL_TIME = datetime(2025, 1, 1)
_TRIAL_SYSTEM = "trialsystemtext"
_TRIAL_USER = "trialusertext"


class ChatTemplate:
    """Compiled chat template. Thread-safe.

    :param source: the Jinja source; raises :class:`TemplateError` if it does not compile.
    :param bos: the text of the begin-of-sequence token, the template's ``bos_token``.
    :param eos: the text of the end-of-sequence token, the template's ``eos_token``.
    :param clock: monotonic clock in seconds, for the time limit of a rendering.
    """

    def __init__(
        self, source: str, *, bos: str, eos: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._clock = clock
        self._template = compile_template(source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        think: bool | str | None = None,
        now: datetime,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt for ``messages``.

        ``think`` sets the switches of thinking, under all their names, and a string also those of its level;
        None leaves them undefined. ``tools`` is undefined if there are none.
        ``extra`` are further variables, which override those set here.

        Raises :class:`TemplateError` if the template rejects the messages, fails, or exceeds the limits
        of :mod:`ollama_tw.templates.budget`.
        """
        variables: dict[str, Any] = {
            "add_generation_prompt": add_generation_prompt,
            **({"tools": [dict(tool) for tool in tools]} if tools else {}),
            **_thinking(think),
            **(extra or {}),
        }
        return self._render(template_messages(messages, self._needs), now, variables)

    @property
    def has_system_role(self) -> bool:
        """True if system messages are rendered as such; else their text precedes the next user message's.

        Raises :class:`~ollama_tw.templates.budget.LimitExceeded` if the trial renderings exceed a limit.
        """
        return self._needs.system_role

    @functools.cached_property
    def _needs(self) -> TemplateNeeds:
        """The template's requirements, including those that only trial renderings show.

        As in llama.cpp, a template that rejects or omits the system message, or omits content that is
        a plain string, is given the other form if it renders that.
        """
        needs = read_needs(self.source)
        if not self._shows(needs, _TRIAL_USER):
            parts = dataclasses.replace(needs, content_parts=True)
            if self._shows(parts, _TRIAL_USER):
                needs = parts
        if not self._shows(needs, _TRIAL_SYSTEM):
            needs = dataclasses.replace(needs, system_role=False)
        return needs

    def _shows(self, needs: TemplateNeeds, text: str) -> bool:
        trial = [Message("user", _TRIAL_USER)]
        if text == _TRIAL_SYSTEM:
            trial.insert(0, Message("system", _TRIAL_SYSTEM))
        try:
            return text in self._render(
                template_messages(trial, needs), _TRIAL_TIME, {"add_generation_prompt": True}
            )
        except LimitExceeded:
            raise
        except TemplateError:
            return False

    def _render(self, messages: list[dict[str, Any]], now: datetime, variables: Mapping[str, Any]) -> str:
        values = {**self._tokens, "messages": messages, **variables}
        return self._template.render(values, now, Budget(self._clock))


def _thinking(think: bool | str | None) -> dict[str, Any]:
    if think is None:
        return {}
    if isinstance(think, str):
        return {**dict.fromkeys(_SWITCHES, True), **dict.fromkeys(_LEVELS, think)}
    return dict.fromkeys(_SWITCHES, think)
