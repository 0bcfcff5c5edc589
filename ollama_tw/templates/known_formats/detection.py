"""Detection of the named format that a Jinja chat template writes.

Ollama compares the source of the template with the sources of known ones and chooses the nearest. Here
the template is rendered for a few conversations, and the format is chosen whose Go template renders all of
them identically. Detection thus never changes a model's prompts (the nearest source may render another
prompt: without a default system message, or with an additional blank), unknown templates are detected
too, and no sources have to be distributed.

Source: ollama: template/template.go, Named; server/model.go, detectChatTemplate.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ollama_tw.templates import gotemplate
from ollama_tw.templates.budget import LimitExceeded, TemplateError
from ollama_tw.templates.known_formats.formats import BOS, EOS, FORMATS, Format, with_tokens
from ollama_tw.templates.known_formats.writing import Opening, When, go_template
from ollama_tw.wire.native import Message

if TYPE_CHECKING:
    from ollama_tw.templates.jinja import ChatTemplate

_MAX_SECONDS: Final = 0.1
"""Limit for all renderings of one template together."""
_MAX_SOURCE: Final = 6 << 10
"""Maximum length of a template in characters; those of the named formats have at most 3,000."""
_MAX_OPENING: Final = 4 << 10
_MIN_RENDERINGS: Final = 2

# A template that contains one of these words can do more than any named format.
_MORE = re.compile(r"tool|think|reason", re.IGNORECASE)
_WRITTEN_BOS = "<s>"


@dataclass(frozen=True)
class NamedTemplate:
    """Source of a Go template; ``stop`` are the texts at which a reply ends."""

    name: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class _Rendering:
    """Output of a chat template for ``messages``, without a begin-of-sequence token.

    ``now`` differs between renderings, so that a template that writes the date is not detected.
    """

    messages: Sequence[Message]
    now: datetime
    text: str

    def in_tokens_of(self, form: Format) -> "_Rendering":
        return replace(self, text=self.text.replace(BOS, form.bos).replace(EOS, form.eos))


_SYSTEM = Message("system", 'Answer in "one word", & not\nin <two>.')
_FIRST = Message("user", "What is the capital of France?")
_REPLY = Message("assistant", "Paris, Île-de-France")
_NEXT = Message("user", "And its river's\n\nlength, 1+1 km?")
# No text begins or ends with a blank: many templates strip contents, and Go templates cannot.
_PROBES: Final = (
    (_FIRST,),
    (_NEXT, _REPLY, _FIRST),
    (_SYSTEM, _NEXT),
    (_SYSTEM, _FIRST, _REPLY, _NEXT),
    (_FIRST, _REPLY, _SYSTEM, _NEXT),
)


def detect(
    jinja: str,
    *,
    bos: str | None = None,
    eos: str | None = None,
    clock: Callable[[], float] = time.thread_time,
) -> NamedTemplate | None:
    """Return the named template that renders as ``jinja`` does, or None.

    Conversations that ``jinja`` rejects are skipped; two must remain. Of several names the first in
    Ollama's order is chosen. ``bos`` and ``eos`` are the texts of the model's begin-of-sequence and
    end-of-sequence tokens; None stands for the usual ones of a format. Never raises. All renderings
    together are limited to 0.1 s by ``clock``, the CPU time of the thread by default, so that the result
    does not depend on the load of the machine.
    """
    if len(jinja) > _MAX_SOURCE or _MORE.search(jinja) or "{" in f"{bos}{eos}":
        return None
    try:
        from ollama_tw.templates.jinja import ChatTemplate

        template = ChatTemplate(jinja, bos=BOS, eos=EOS, clock=_stopping(clock, clock() + _MAX_SECONDS))
        renderings = list(_render(template))
        has_system_role = template.has_system_role
    except TemplateError:
        return None
    if len(renderings) < _MIN_RENDERINGS:
        return None
    forms = [
        with_tokens(form, bos or form.bos, eos or form.eos)
        for form in FORMATS
        if not (form.refuses_system and has_system_role)
    ]
    for openings in (_no_opening, _possible_openings):
        for form in forms:
            expected = [rendering.in_tokens_of(form) for rendering in renderings]
            for opening in openings(form, expected):
                text = go_template(form, opening)
                if all(_go_text(text, rendering) == rendering.text for rendering in expected):
                    return NamedTemplate(form.name, text, form.stop)
    return None


def _stopping(clock: Callable[[], float], deadline: float) -> Callable[[], float]:
    """Return a clock by which every rendering reaches its time limit once ``deadline`` has passed."""
    return lambda: 0.0 if clock() < deadline else math.inf


def _render(template: "ChatTemplate") -> Iterator[_Rendering]:
    for day, messages in enumerate(_PROBES, 1):
        now = datetime(2024, day, day, day)
        try:
            text = template.render(messages, now=now, reorder=False)
        except LimitExceeded:
            raise
        except TemplateError:
            continue
        text = text.removeprefix(BOS).removeprefix(_WRITTEN_BOS)
        yield _Rendering(messages, now, text)


def _no_opening(form: Format, expected: Sequence[_Rendering]) -> Iterator[Opening | None]:
    yield None


def _possible_openings(form: Format, expected: Sequence[_Rendering]) -> Iterator[Opening | None]:
    """Yield the texts that may precede a conversation which is otherwise written in ``form``."""
    first = next((rendering for rendering in expected if _SYSTEM not in rendering.messages), None)
    if first is None:
        return
    plain = _go_text(go_template(form), first)
    opening = first.text.removesuffix(plain)
    if opening != first.text and len(opening) <= _MAX_OPENING and "{" not in opening:
        yield from (Opening(opening, when) for when in When)


def _go_text(template: str, rendering: _Rendering) -> str:
    return _parse(template).render(rendering.messages, now=rendering.now)


_parse = lru_cache(maxsize=64)(gotemplate.parse)
