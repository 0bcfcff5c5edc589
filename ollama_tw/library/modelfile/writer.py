"""Formatting of instructions as a Modelfile.

Pure. Source: ollama: parser/parser.go, Modelfile.String.
"""

import re
from collections.abc import Iterable

from ollama_tw.library.modelfile.parser import FROM, INSTRUCTIONS, MESSAGE, ROLES, Instruction, ModelfileError
from ollama_tw.library.modelfile.values import quote

_KEY = re.compile(r"[A-Za-z0-9_]*")


def format_modelfile(instructions: Iterable[Instruction]) -> str:
    """Format a Modelfile that parses to ``instructions``.

    Raises ModelfileError for a parameter's key or a value that cannot be represented.
    """
    return "".join(f"{_format(instruction)}\n" for instruction in instructions)


def _format(instruction: Instruction) -> str:
    head, value = _split(instruction)
    try:
        return f"{head} {quote(value)}"
    except ValueError as error:
        raise ModelfileError(f"the value of {head} cannot be written in a Modelfile") from error


def _split(instruction: Instruction) -> tuple[str, str]:
    if instruction.name == MESSAGE:
        role, separator, text = instruction.value.partition(": ")
        if separator and role in ROLES:
            return f"MESSAGE {role}", text
    elif instruction.name in INSTRUCTIONS:
        return "FROM" if instruction.name == FROM else instruction.name.upper(), instruction.value
    if not _KEY.fullmatch(instruction.name):
        raise ModelfileError(f"the parameter '{instruction.name}' cannot be written in a Modelfile")
    return f"PARAMETER {instruction.name}", instruction.value
