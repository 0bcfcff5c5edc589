"""Errors of Go templates."""

from ollama_tw.errors import OllamaError


class TemplateError(OllamaError):
    """Error of a template that cannot be parsed or executed.

    ``message`` is the whole text in Go's form, ``template: :LINE: ...`` if parsing fails and
    ``template: :LINE:COLUMN: executing "" at <...>: ...`` if execution fails; ``line`` counts from 1.
    The status is 500, as in Ollama; callers that need another status raise their own error.

    Source: Go's package ``text/template`` (ExecError); ollama: server/routes.go.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(500, message)
        self.line = line


class EvaluationError(Exception):
    """Error of a value or function call, without its place in the template."""


def line_of(source: str, position: int) -> int:
    """Return the line, counted from 1, of the character at ``position``."""
    return source.count("\n", 0, position) + 1
