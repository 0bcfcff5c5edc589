"""Commands, written as the text of a Modelfile.

Pure. Source: ``spec/models-and-cli.md`` sections 6.1 and 6.2.
"""

import re
from collections.abc import Iterable

from ollama_tw.library.modelfile.parser import COMMANDS, FROM, MESSAGE, ROLES, Command, ModelfileError
from ollama_tw.library.modelfile.values import quote

_KEY = re.compile(r"[A-Za-z0-9_]*")


def format_modelfile(commands: Iterable[Command]) -> str:
    """The text from which the parser reads ``commands`` again, one after another.

    Raises ModelfileError for a parameter's key or a value that a Modelfile cannot carry.
    """
    return "".join(f"{_format(command)}\n" for command in commands)


def _format(command: Command) -> str:
    head, value = _split(command)
    try:
        return f"{head} {quote(value)}"
    except ValueError as error:
        raise ModelfileError(f"the value of {head} cannot be written in a Modelfile") from error


def _split(command: Command) -> tuple[str, str]:
    if command.name == MESSAGE:
        role, separator, text = command.value.partition(": ")
        if separator and role in ROLES:
            return f"MESSAGE {role}", text
    elif command.name in COMMANDS:
        return "FROM" if command.name == FROM else command.name.upper(), command.value
    if not _KEY.fullmatch(command.name):
        raise ModelfileError(f"the parameter '{command.name}' cannot be written in a Modelfile")
    return f"PARAMETER {command.name}", command.value
