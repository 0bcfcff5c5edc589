"""Which named format the Jinja chat template of a file writes.

Ollama compares the template's text with the texts of known ones and takes the nearest. Here the template
is tried: it is rendered for a few conversations, and a format is taken whose Go template writes exactly
the same for all of them. So no model's prompts change by being detected (what the nearest text means may
be another prompt: a default system message lost, a blank too many), templates that nobody has collected
are recognised too, and none have to be carried along.

Source: ``spec/models-and-cli.md`` sections 4.7 and 7.6, for what a detection is for.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final

from ollama_tw.templates import gotemplate
from ollama_tw.templates.budget import LimitExceeded, TemplateError
from ollama_tw.templates.jinja import ChatTemplate
from ollama_tw.templates.known_formats.formats import BOS, EOS, FORMATS, Format, with_tokens
from ollama_tw.templates.known_formats.writing import Opening, When, go_template
from ollama_tw.wire.native import Message

_MAX_SECONDS: Final = 0.1
"""For all renderings of one template, together."""
_MAX_SOURCE: Final = 6 << 10
"""Characters of a template's text; those of the named formats have 3,000 at most."""
_MAX_OPENING: Final = 4 << 10
_MIN_RENDERINGS: Final = 2

# A template with these words can do more than any named format.
_MORE = re.compile(r"tool|think|reason", re.IGNORECASE)
_WRITTEN_BOS = "<s>"


@dataclass(frozen=True)
class NamedTemplate:
    """``template`` is the text of a Go template, ``stop`` are the texts at which a reply ends."""

    name: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class _Rendering:
    """What a chat template has written for ``messages``, without the token at its very beginning.

    ``now`` is another time in each: a template that writes the date is none of ours.
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
# No text begins or ends with a blank: many templates trim, and Go templates cannot.
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
    """The named template that writes what ``jinja`` writes, or None.

    Conversations that ``jinja`` refuses are not counted; two must be left. Of several names the first
    in Ollama's order is taken. ``bos`` and ``eos`` are the texts of the model's tokens that begin and end a
    sequence; where they are not known, those that models of the format usually have. Whatever ``jinja``
    is, nothing is raised, and its renderings take a tenth of a second at most by ``clock``: of work, so that
    the load of the machine does not decide.
    """
    if len(jinja) > _MAX_SOURCE or _MORE.search(jinja) or "{" in f"{bos}{eos}":
        return None
    try:
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
    """A clock for all renderings together: the limit of each is reached when their time is up."""
    return lambda: 0.0 if clock() < deadline else math.inf


def _render(template: ChatTemplate) -> Iterator[_Rendering]:
    for day, messages in enumerate(_PROBES, 1):
        now = datetime(2024, day, day, day)
        try:
            text = template.render(messages, now=now)
        except LimitExceeded:
            raise
        except TemplateError:
            continue
        text = text.removeprefix(BOS).removeprefix(_WRITTEN_BOS)
        yield _Rendering(messages, now, text)


def _no_opening(form: Format, expected: Sequence[_Rendering]) -> Iterator[Opening | None]:
    yield None


def _possible_openings(form: Format, expected: Sequence[_Rendering]) -> Iterator[Opening | None]:
    """What may stand before a conversation that else is written in ``form``."""
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
