"""State and limits of one execution of a template."""

from collections.abc import Callable
from typing import TypeAlias

from ollama_tw.templates.gotemplate.errors import EvaluationError
from ollama_tw.templates.gotemplate.functions import Environment
from ollama_tw.templates.gotemplate.values import Value

MAX_STEPS = 5_000_000
"""Maximum number of steps: about one for each executed node, more for long values.

A message takes about twenty.
"""
MAX_OUTPUT = 64 << 20
"""Maximum number of characters of the output and of each intermediate text."""
MAX_DEPTH = 50
"""Maximum nesting of ``{{template}}``."""


class Run:
    """State of one execution."""

    def __init__(self, environment: Environment, missing: Value) -> None:
        self.environment = environment
        self.missing = missing
        self.parts: list[str] = []
        self.remaining = environment.max_text
        self.steps = MAX_STEPS
        self.depth = 0

    def write(self, text: str) -> None:
        """Append to the output. Raises EvaluationError above the limit."""
        self.remaining -= len(text)
        if self.remaining < 0:
            raise EvaluationError(f"output longer than {self.environment.max_text} characters")
        self.parts.append(text)

    def charge(self, steps: int) -> None:
        """Count steps. Raises EvaluationError above the limit."""
        self.steps -= steps
        if self.steps < 0:
            raise EvaluationError(f"exceeded maximum of {MAX_STEPS} execution steps")


Variables: TypeAlias = list[Value]
Evaluate: TypeAlias = Callable[[Run, Value, Variables], Value]
"""Compiled operand or pipeline: takes the execution, the value of ``.`` and those of the variables."""
