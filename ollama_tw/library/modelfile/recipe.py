"""What the commands of a Modelfile ask for, before any file has been looked for.

Pure. Source: ``spec/models-and-cli.md`` section 6.3.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_tw.library.modelfile.parameters import DEPRECATED, KINDS, parse_parameter
from ollama_tw.library.modelfile.parser import COMMANDS, FROM, MESSAGE, Command, ModelfileError
from ollama_tw.wire.options import Kind

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?)?"
)


@dataclass(frozen=True)
class Recipe:
    """A model as a Modelfile describes it.

    ``bases``, ``adapters`` and ``drafts`` are the values of FROM, ADAPTER and DRAFT as they were written:
    paths, and for FROM also names of models. ``warnings`` are lines for the user.
    """

    bases: tuple[str, ...]
    adapters: tuple[str, ...]
    drafts: tuple[str, ...]
    texts: Mapping[str, str]
    """``template``, ``system``, ``renderer``, ``parser`` and ``requires``, as far as they are given."""
    licenses: tuple[str, ...]
    messages: tuple[Mapping[str, str], ...]
    parameters: Mapping[str, Any]
    warnings: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        """The fields of the create request that need no files; what is empty is left out."""
        fields: dict[str, Any] = {
            **self.texts,
            "license": list(self.licenses),
            "messages": [dict(message) for message in self.messages],
            "parameters": dict(self.parameters),
        }
        return {key: value for key, value in fields.items() if value}


def read_recipe(commands: Iterable[Command]) -> Recipe:
    """The recipe that ``commands`` give; raises ModelfileError.

    Of a text or a parameter that is given twice the last one counts; stop texts add up.
    """
    values: dict[str, list[str]] = {name: [] for name in COMMANDS}
    parameters: dict[str, Any] = {}
    warnings: list[str] = []
    for command in commands:
        if command.name in COMMANDS:
            values[command.name].append(command.value)
        elif command.name in DEPRECATED:
            warnings.append(f"warning: parameter {command.name} is deprecated")
        elif KINDS.get(command.name) is Kind.STRINGS:
            parameters.setdefault(command.name, []).append(parse_parameter(command.name, command.value))
        else:
            parameters[command.name] = parse_parameter(command.name, command.value)
    texts = {name: values[name][-1] for name in ("template", "system", "renderer", "parser") if values[name]}
    if versions := [_version(text) for text in values["requires"]]:
        texts["requires"] = versions[-1]
    return Recipe(
        bases=tuple(values[FROM]),
        adapters=tuple(values["adapter"]),
        drafts=tuple(values["draft"]),
        texts=texts,
        licenses=tuple(values["license"]),
        messages=tuple(_message(text) for text in values[MESSAGE]),
        parameters=parameters,
        warnings=tuple(warnings),
    )


def _version(text: str) -> str:
    """A semantic version of one to three numbers, without the ``v`` before it."""
    version = text.removeprefix("v")
    if not _VERSION.fullmatch(version):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return version


def _message(text: str) -> dict[str, str]:
    role, _, content = text.partition(": ")
    return {"role": role, "content": content}
