"""Interpretation of the instructions of a Modelfile, without access to files.

Pure. Source: ollama: parser/parser.go, Modelfile.CreateRequest.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_tw.library.modelfile.parameters import DEPRECATED, KINDS, parse_parameter
from ollama_tw.library.modelfile.parser import FROM, INSTRUCTIONS, MESSAGE, Instruction, ModelfileError
from ollama_tw.wire.options import Kind

_LONGEST_VERSION = 256
_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?)?"
)


@dataclass(frozen=True)
class Recipe:
    """Model described by a Modelfile.

    ``bases``, ``adapters`` and ``drafts`` are the values of FROM, ADAPTER and DRAFT: paths, and for
    FROM also model names. ``warnings`` are lines for the user.
    """

    bases: tuple[str, ...]
    adapters: tuple[str, ...]
    drafts: tuple[str, ...]
    texts: Mapping[str, str]
    """Those of ``template``, ``system``, ``renderer``, ``parser`` and ``requires`` that are given."""
    licenses: tuple[str, ...]
    messages: tuple[Mapping[str, str], ...]
    parameters: Mapping[str, Any]
    warnings: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        """Return the fields of the create request except files; empty ones are omitted."""
        fields: dict[str, Any] = {
            **self.texts,
            "license": list(self.licenses),
            "messages": [dict(message) for message in self.messages],
            "parameters": dict(self.parameters),
        }
        return {key: value for key, value in fields.items() if value}


def read_recipe(instructions: Iterable[Instruction]) -> Recipe:
    """Interpret ``instructions``; raises ModelfileError.

    Of several values of a text or parameter the last one counts; stop texts accumulate.
    """
    values: dict[str, list[str]] = {name: [] for name in INSTRUCTIONS}
    parameters: dict[str, Any] = {}
    warnings: list[str] = []
    for instruction in instructions:
        if instruction.name in INSTRUCTIONS:
            values[instruction.name].append(instruction.value)
        elif instruction.name in DEPRECATED:
            warnings.append(f"warning: parameter {instruction.name} is deprecated")
        elif KINDS.get(instruction.name) is Kind.STRINGS:
            parameters.setdefault(instruction.name, []).append(
                parse_parameter(instruction.name, instruction.value)
            )
        else:
            parameters[instruction.name] = parse_parameter(instruction.name, instruction.value)
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
    """Return a semantic version of one to three numbers without its ``v``; raises ModelfileError."""
    version = text.removeprefix("v")
    if len(version) > _LONGEST_VERSION or not _VERSION.fullmatch(version):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return version


def _message(text: str) -> dict[str, str]:
    role, _, content = text.partition(": ")
    return {"role": role, "content": content}
