"""Trial renderings of an untrusted chat template, by which its properties are found.

All trials of a template share one budget that depends on the template alone, not on the clock, so that
their results are the same at every start of the server. A template that raises, fails or has used the
budget up gives no text: the property that was sought is unknown.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from ollama_tw.templates.budget import Budget, Limits, TemplateError
from ollama_tw.templates.compiled import CompiledTemplate, compile_template
from ollama_tw.templates.variables import tool_variables

BOS: Final = "\ue000"
EOS: Final = "\ue001"
"""The template's ``bos_token`` and ``eos_token`` in trials: one private-use character each."""

MAX_STEPS: Final = 100_000
MAX_TOTAL: Final = 8 << 20
"""Iterations, calls and pieces of output, and size of the values built, in all trials of a template.

The most that 70 published templates take is 21,000 and 1.6 MB.
"""
_MAX_SECONDS = 1.0
"""CPU time of one trial: a second bound, above what :data:`MAX_STEPS` take."""

_NOW = datetime(2025, 1, 1)


class Trial:
    """Renders one template within the budget of its trials."""

    def __init__(self, template: CompiledTemplate) -> None:
        self.source = template.source
        self.variables = template.variables
        """The names that the template takes from its variables, at least somewhere."""
        self._template = template
        self._steps = MAX_STEPS
        self._total = MAX_TOTAL

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        generation: bool = False,
        **variables: Any,
    ) -> str | None:
        """Return the prompt of plain ``messages``, or None if the template does not render them.

        ``generation`` is ``add_generation_prompt``. The variables of ``tools`` are those of a request.
        """
        values = {
            "bos_token": BOS,
            "eos_token": EOS,
            "messages": messages,
            "add_generation_prompt": generation,
            **tool_variables(tools),
            **variables,
        }
        budget = Budget(time.thread_time, Limits(_MAX_SECONDS, self._total, self._steps))
        try:
            return self._template.render(values, _NOW, budget)
        except TemplateError:
            return None
        finally:
            self._steps -= budget.steps
            self._total -= budget.total


Result = TypeVar("Result")

_MAX_RESULTS = 64
_finding = threading.RLock()


class FoundOnce(Generic[Result]):
    """Decorator of a function of a template's source that caches its results. Thread-safe.

    Concurrent first calls wait for one of them: each would use up the common budget of the trials.
    """

    def __init__(self, find: Callable[[str], Result]) -> None:
        functools.update_wrapper(self, find)
        self._find = find
        self._found: dict[str, Result] = {}

    def __call__(self, source: str) -> Result:
        """Return the cached result for ``source``."""
        if source in self._found:
            with contextlib.suppress(KeyError):  # dropped meanwhile
                return self._found[source]
        with _finding:
            if source in self._found:
                return self._found[source]
            result = self._find(source)
            if len(self._found) >= _MAX_RESULTS:
                del self._found[next(iter(self._found))]
            self._found[source] = result
            return result

    def clear(self) -> None:
        """Forget all results."""
        self._found.clear()


@FoundOnce
def trial_of(source: str) -> Trial:
    """Return the trial renderings of the template ``source``, cached by it.

    Raises :class:`TemplateError` if it does not compile.
    """
    return Trial(compile_template(source))
