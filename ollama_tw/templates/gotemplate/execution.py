"""The state of one execution of a template, and what it may cost."""

from collections.abc import Callable
from typing import TypeAlias

from ollama_tw.templates.gotemplate.errors import EvaluationError
from ollama_tw.templates.gotemplate.functions import Environment
from ollama_tw.templates.gotemplate.values import Value

MAX_STEPS = 5_000_000
"""About one a node executed, and more for long values; a message takes some twenty."""
MAX_OUTPUT = 64 << 20
"""Characters of the output, and of every text made on the way."""
MAX_DEPTH = 50
"""``{{template}}`` within each other."""


class Run:
    """The state of one execution."""

    def __init__(self, environment: Environment, missing: Value) -> None:
        self.environment = environment
        self.missing = missing
        self.parts: list[str] = []
        self.room = environment.max_text
        self.steps = MAX_STEPS
        self.depth = 0

    def write(self, text: str) -> None:
        """Adds to the output. Raises EvaluationError when there is too much of it."""
        self.room -= len(text)
        if self.room < 0:
            raise EvaluationError(f"output longer than {self.environment.max_text} characters")
        self.parts.append(text)

    def charge(self, steps: int) -> None:
        """Counts steps. Raises EvaluationError when there were too many."""
        self.steps -= steps
        if self.steps < 0:
            raise EvaluationError(f"exceeded maximum of {MAX_STEPS} execution steps")


Variables: TypeAlias = list[Value]
Evaluate: TypeAlias = Callable[[Run, Value, Variables], Value]
"""A compiled operand or pipeline: takes the execution, the value of ``.`` and those of the variables."""
