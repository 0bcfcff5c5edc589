"""Chat templates in Jinja, the values of ``tokenizer.chat_template`` in GGUF files."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ollama_tw.templates.budget import Budget, TemplateRefusal
from ollama_tw.templates.compiled import compile_template
from ollama_tw.templates.orders import other_orders
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
    :param clock: seconds of the calling thread, for the time limit of a rendering; processor time, since a
        rendering is not to fail because the machine is busy.
    """

    def __init__(
        self, source: str, *, bos: str, eos: str, clock: Callable[[], float] = time.thread_time
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
        think_budget: int | None = None,
        now: datetime,
        extra: Mapping[str, Any] | None = None,
        reorder: bool = True,
    ) -> str:
        """Return the prompt for ``messages``; with ``reorder``, in another order if theirs is refused.

        ``think`` is on, off or a level, in the variables and words of the template; None leaves them
        undefined. ``think_budget`` is the maximum number of tokens of the thinking. ``extra`` are further
        variables, which override those set here.

        Raises :class:`TemplateRefusal` if the template refuses every order, or fails, and
        :class:`LimitExceeded` if it exceeds the limits of :mod:`ollama_tw.templates.budget`.
        """
        variables: dict[str, Any] = {
            "add_generation_prompt": add_generation_prompt,
            **tool_variables(tools or ()),
            **find_controls(self.source).variables(think, think_budget),
            **(extra or {}),
        }
        budget = Budget(self._clock)
        try:
            return self._render(messages, now, variables, budget)
        except TemplateRefusal:
            for order in other_orders(messages) if reorder else ():
                with contextlib.suppress(TemplateRefusal):
                    return self._render(order, now, variables, budget)
            raise

    @property
    def has_system_role(self) -> bool:
        """True if system messages are rendered as such; else their text precedes the next user message's.

        Raises :class:`~ollama_tw.templates.budget.LimitExceeded` if the trial renderings exceed a limit.
        """
        return self._shape.system_role

    @property
    def _shape(self) -> MessageShape:
        return find_shape(self.source)

    def _render(
        self, messages: Sequence[Message], now: datetime, variables: Mapping[str, Any], budget: Budget
    ) -> str:
        shaped = template_messages(messages, self._shape)
        return self._template.render({**self._tokens, "messages": shaped, **variables}, now, budget)
