"""Tokens and speed of the last answer, for the status line and ``/tokens``. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollama_tw.cli.width import clipped, text_width
from ollama_tw.golang.durations import SECOND

_GAP = "  "


@dataclass(frozen=True)
class Usage:
    """Tokens of the last exchange; ``context`` is the context length of the loaded model, 0 if unknown."""

    prompt: int = 0
    answer: int = 0
    rate: float = 0.0
    context: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any], context: int) -> "Usage":
        """Return the usage that the last record of an answer reports."""
        count, duration = record.get("eval_count", 0), record.get("eval_duration", 0)
        rate = count / (duration / SECOND) if duration > 0 else 0.0
        return cls(record.get("prompt_eval_count", 0), count, rate, context)

    def used(self) -> str:
        """Return how much of the context the conversation takes, "" before the first answer."""
        tokens = self.prompt + self.answer
        if not tokens:
            return ""
        if not self.context:
            return f"{tokens} tokens"
        return f"{tokens} of {self.context} tokens ({tokens / self.context:.0%})"

    def status(self, model: str, columns: int) -> str:
        """Return the status line, without the parts that the terminal has no place for."""
        speed = f"{self.rate:.1f} tokens/s" if self.rate else ""
        context = f"context: {self.used()}" if self.used() else ""
        for parts in ((model, speed, context), (model, self.used()), (model,)):
            line = _GAP.join(part for part in parts if part)
            if text_width(line) < columns:
                return line
        return clipped(model, max(columns - 1, 0))

    def report(self) -> str:
        """Return the lines of ``/tokens``."""
        if not self.prompt + self.answer:
            return "No complete answer yet.\n"
        return (
            f"prompt    {self.prompt} token(s)\nanswer    {self.answer} token(s)\ncontext   {self.used()}\n"
        )
