"""Chat templates in Jinja, as they stand in GGUF files under ``tokenizer.chat_template``."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import jinja2

from ollama_tw.templates.budget import MAX_OUTPUT, Budget, LimitExceeded, TemplateError, current, spending
from ollama_tw.templates.sandbox import Environment
from ollama_tw.templates.template_messages import TemplateNeeds, read_needs, template_messages
from ollama_tw.wire.native import Message

MAX_SOURCE: Final = 256 << 10
"""Characters of a template's text; the largest real ones have about 30,000."""
_MAX_DATE_FORMAT = 256

_TRIAL_TIME = datetime(2025, 1, 1)
_TRIAL_SYSTEM = "trialsystemtext"
_TRIAL_USER = "trialusertext"


class ChatTemplate:
    """A compiled template; renders from any thread, and from several at once.

    :param source: the Jinja text; :class:`TemplateError` where it does not compile.
    :param bos: the text of the token that begins a sequence, given to the template as ``bos_token``.
    :param eos: the same of the token that ends one.
    :param clock: seconds that only grow; limits how long a rendering may take.
    """

    def __init__(
        self, source: str, *, bos: str, eos: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._clock = clock
        self._template = _compile(source)

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
        """The prompt for ``messages``.

        ``think`` sets ``enable_thinking``, a word also ``reasoning_effort``; None leaves both undefined.
        ``extra`` gives more variables and goes before our own.

        Raises :class:`TemplateError` where the template refuses the messages, fails, or exceeds the
        limits of :mod:`ollama_tw.templates.budget`.
        """
        variables: dict[str, Any] = {
            "tools": [dict(tool) for tool in tools] if tools else None,
            "add_generation_prompt": add_generation_prompt,
            **_thinking(think),
            **(extra or {}),
        }
        return self._render(template_messages(messages, self._shape), now, variables)

    @property
    def has_system_role(self) -> bool:
        """Whether system messages are shown as such; else their text goes before the next user's.

        Raises :class:`~ollama_tw.templates.budget.LimitExceeded` where it takes too much to find out.
        """
        return self._shape.system_role

    @functools.cached_property
    def _shape(self) -> TemplateNeeds:
        """The shape of messages, with what only trial renderings show.

        Trials are what llama.cpp does: a template that refuses or forgets the system message, or
        shows nothing of a text that is a plain string, gets another form where that works.
        """
        shape = read_needs(self.source)
        if not self._shows(shape, _TRIAL_USER):
            parts = dataclasses.replace(shape, content_parts=True)
            if self._shows(parts, _TRIAL_USER):
                shape = parts
        if not self._shows(shape, _TRIAL_SYSTEM):
            shape = dataclasses.replace(shape, system_role=False)
        return shape

    def _shows(self, shape: TemplateNeeds, text: str) -> bool:
        trial = [Message("user", _TRIAL_USER)]
        if text == _TRIAL_SYSTEM:
            trial.insert(0, Message("system", _TRIAL_SYSTEM))
        try:
            return text in self._render(
                template_messages(trial, shape), _TRIAL_TIME, {"tools": None, "add_generation_prompt": True}
            )
        except LimitExceeded:
            raise
        except TemplateError:
            return False

    def _render(self, messages: list[dict[str, Any]], now: datetime, variables: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        length = 0
        values = {
            **self._tokens,
            "messages": messages,
            "documents": None,
            "date_string": now.strftime("%d %b %Y"),
            "strftime_now": lambda form: now.strftime(form[:_MAX_DATE_FORMAT]),
            **variables,
        }
        with spending(Budget(self._clock)):
            try:
                for piece in self._template.generate(values):
                    current().step()
                    length += len(piece)
                    if length > MAX_OUTPUT:
                        raise LimitExceeded("the chat template makes a prompt that is too long")
                    pieces.append(piece)
            except TemplateError:
                raise
            except Exception as error:  # whatever a stranger's program can raise
                raise TemplateError(_sentence("the chat template failed", error)) from error
        return "".join(pieces)


@functools.cache
def _environment() -> Environment:
    return Environment()


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    if len(source) > MAX_SOURCE:
        raise TemplateError("the chat template is too long")
    environment = _environment()
    try:
        return environment.from_string(environment.metered(source))
    except Exception as error:  # a hostile text can break the parser and Python's compiler in many ways
        raise TemplateError(_sentence("the chat template does not compile", error)) from error


def _thinking(think: bool | str | None) -> dict[str, Any]:
    if think is None:
        return {}
    if isinstance(think, str):
        return {"enable_thinking": True, "reasoning_effort": think}
    return {"enable_thinking": think}


def _sentence(what: str, error: Exception) -> str:
    detail = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError):
        detail = f"line {error.lineno}: {detail}"
    return f"{what}: {detail[:200]}"
