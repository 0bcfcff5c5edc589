"""Compiled Jinja templates: rendered within a budget, with the variables that chat templates get."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jinja2
from jinja2 import meta, nodes

from ollama_tw.templates.budget import (
    MAX_OUTPUT,
    Budget,
    LimitExceeded,
    TemplateError,
    TemplateRefusal,
    current,
    spending,
)
from ollama_tw.templates.sandbox import Environment

MAX_SOURCE: Final = 256 << 10
"""Maximum length of a template in characters; the largest published ones have about 30,000."""
_MAX_NAMES = 500
"""Maximum number of names of a template: Jinja's compiler copies all that are in use for each branch."""
_MAX_DATE_FORMAT = 256


@dataclass(frozen=True)
class CompiledTemplate:
    """Compiled template. Thread-safe."""

    source: str
    variables: frozenset[str]
    """The names that the template takes from its variables, at least somewhere."""
    _template: jinja2.Template

    def render(self, values: Mapping[str, Any], now: datetime, budget: Budget) -> str:
        """Return the text of the template with ``values`` and the functions and texts of the date ``now``.

        Raises :class:`TemplateRefusal` if the template raises an exception or fails, and
        :class:`LimitExceeded` if it exceeds ``budget``.
        """
        pieces: list[str] = []
        length = 0
        with spending(budget):
            try:
                for piece in self._template.generate({**_dates(now), **values}):
                    current().step()
                    length += len(piece)
                    if length > MAX_OUTPUT:
                        raise LimitExceeded("the chat template makes a prompt that is too long")
                    pieces.append(piece)
            except TemplateError:
                raise
            except Exception as error:  # an untrusted template can raise anything
                raise TemplateRefusal(_sentence("the chat template failed", error)) from error
        return "".join(pieces)


@functools.lru_cache(maxsize=64)
def compile_template(source: str) -> CompiledTemplate:
    """Return the compiled ``source``. Raises :class:`TemplateError` if it does not compile."""
    if len(source) > MAX_SOURCE:
        raise TemplateError("the chat template is too long")
    environment = _environment()
    try:
        tree = environment.metered(source)
        if len({name.name for name in tree.find_all(nodes.Name)}) > _MAX_NAMES:
            raise ValueError(f"it has more than {_MAX_NAMES} names")
        return CompiledTemplate(
            source, frozenset(meta.find_undeclared_variables(tree)), environment.from_string(tree)
        )
    except Exception as error:  # a hostile text can break the parser and Python's compiler in many ways
        raise TemplateError(_sentence("the chat template does not compile", error)) from error


@functools.cache
def _environment() -> Environment:
    return Environment()


def _dates(now: datetime) -> dict[str, Any]:
    """Return the variables of the date, as Hugging Face's library and llama.cpp give them."""
    return {
        "date_string": now.strftime("%d %b %Y"),
        "datetime": now.strftime("%b %d %Y"),
        "strftime_now": lambda form: now.strftime(form[:_MAX_DATE_FORMAT]),
    }


def _sentence(what: str, error: Exception) -> str:
    detail = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError):
        detail = f"line {error.lineno}: {detail}"
    return f"{what}: {detail[:200]}"
