"""What can go wrong with a template."""

from ollama_tw.errors import OllamaError


class TemplateError(OllamaError):
    """A template that cannot be parsed or executed.

    ``message`` is the whole text in Go's manner, ``template: :LINE: ...`` when parsing fails and
    ``template: :LINE:COLUMN: executing "" at <...>: ...`` when executing does; ``line`` counts from 1.
    The status is 500, as Ollama answers; a door that needs another one sets its own.

    Source: spec/models-and-cli.md section 7.1, spec/inference-api.md sections 1.6 and 10.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(500, message)
        self.line = line


class EvaluationError(Exception):
    """A value or a function that does not fit, before it is known where in the template."""


def line_of(source: str, position: int) -> int:
    """The line, counted from 1, on which the character at ``position`` stands."""
    return source.count("\n", 0, position) + 1
