"""Chat templates in Jinja, the values of ``tokenizer.chat_template`` in GGUF files."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ollama_tw.templates.budget import Budget
from ollama_tw.templates.compiled import compile_template
from ollama_tw.templates.shapes import find_shape
from ollama_tw.templates.template_messages import MessageShape, template_messages
from ollama_tw.templates.thinking_controls import find_controls
from ollama_tw.templates.variables import tool_variables
from ollama_tw.wire.native import Message


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

        ``think`` is on, off or a level, in the variables and words of the template; None leaves them
        undefined. ``extra`` are further variables, which override those set here.

        Raises :class:`TemplateError` if the template rejects the messages, fails, or exceeds the limits
        of :mod:`ollama_tw.templates.budget`.
        """
        variables: dict[str, Any] = {
            "add_generation_prompt": add_generation_prompt,
            **tool_variables(tools or ()),
            **find_controls(self.source).variables(think),
            **(extra or {}),
        }
        return self._render(template_messages(messages, self._shape), now, variables)

    @property
    def has_system_role(self) -> bool:
        """True if system messages are rendered as such; else their text precedes the next user message's.

        Raises :class:`~ollama_tw.templates.budget.LimitExceeded` if the trial renderings exceed a limit.
        """
        return self._shape.system_role

    @property
    def _shape(self) -> MessageShape:
        return find_shape(self.source)

    def _render(self, messages: list[dict[str, Any]], now: datetime, variables: Mapping[str, Any]) -> str:
        values = {**self._tokens, "messages": messages, **variables}
        return self._template.render(values, now, Budget(self._clock))
