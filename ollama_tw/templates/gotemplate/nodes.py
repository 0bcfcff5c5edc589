"""Syntax trees of templates. ``str(node)`` is the node as Go's error texts quote it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Node:
    """Base of all nodes; ``position`` is the node's offset in the template's text, in characters."""

    position: int


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """``.``, the current value."""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil(Node):
    """The constant ``nil``."""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """Constant: ``value`` is a str, bool, int, float or complex, ``text`` its spelling."""

    value: str | bool | int | float | complex
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Field(Node):
    """``.A.B`` of the current value: ``names`` is ``("A", "B")``."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """``$x.A``: ``name`` keeps its ``$``."""

    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name + _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Identifier(Node):
    """Name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Fields of a parenthesised pipeline or of a function's result: ``(f .X).A``."""

    base: "Pipe | Identifier"
    names: tuple[str, ...]

    def __str__(self) -> str:
        base = f"({self.base})" if isinstance(self.base, Pipe) else str(self.base)
        return base + _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Command(Node):
    """Operands between two ``|``; at least one."""

    operands: "tuple[Operand, ...]"

    def __str__(self) -> str:
        return " ".join(f"({item})" if isinstance(item, Pipe) else str(item) for item in self.operands)


@dataclass(frozen=True, slots=True)
class Pipe(Node):
    """``commands`` joined by ``|``.

    Their value is assigned to ``variables``, which are declared unless ``assigns``.
    """

    variables: tuple[str, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        target = f"{', '.join(self.variables)} {'=' if self.assigns else ':='} " if self.variables else ""
        return target + " | ".join(map(str, self.commands))


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Literal text outside of actions."""

    text: str

    def __str__(self) -> str:
        return self.text if len(self.text) <= 20 else f"{self.text[:20]}..."


@dataclass(frozen=True, slots=True)
class Action(Node):
    """Pipeline whose value is printed."""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """``if``, ``with`` or ``range``; ``{{else if}}`` is the only Branch of ``alternative``."""

    keyword: Literal["if", "with", "range"]
    pipe: Pipe
    body: "Nodes"
    alternative: "Nodes | None"


@dataclass(frozen=True, slots=True)
class Call(Node):
    """``{{template "name" pipe}}``; also stands for a ``{{block}}``."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        return f'{{{{template "{self.name}"{f" {self.pipe}" if self.pipe else ""}}}}}'


@dataclass(frozen=True, slots=True)
class Break(Node):
    """``{{break}}``."""


@dataclass(frozen=True, slots=True)
class Continue(Node):
    """``{{continue}}``."""


Operand: TypeAlias = Dot | Nil | Constant | Field | Variable | Identifier | Chain | Pipe
Statement: TypeAlias = Text | Action | Branch | Call | Break | Continue
Nodes: TypeAlias = tuple[Statement, ...]


def _dotted(names: Sequence[str]) -> str:
    return "".join(f".{name}" for name in names)
