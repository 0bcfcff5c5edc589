"""GBNF, llama.cpp's grammar notation: expressions, their text, and a builder of rules.

Source: llama.cpp: grammars/README.md; src/llama-grammar.cpp.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ollama_tw.errors import OllamaError

MAX_REPEAT = 2000
"""Maximum count in ``{m,n}``; above it llama.cpp fails or drops the bound silently."""

MAX_COUNT = 1_000_000
"""Maximum count that :meth:`RuleBook.repeat` composes of several repetitions."""

LAST_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Literal:
    """Sequence of characters, possibly empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of inclusive ranges of code points."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """Reference to the rule of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """All of the items, in order."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the items."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The item ``minimum`` to ``maximum`` times; None is no maximum."""

    item: "Node"
    minimum: int
    maximum: int | None


Node = Literal | Chars | Ref | Seq | Choice | Repeat

EMPTY = Literal("")


def seq(*items: Node | str) -> Node:
    """Return the items in order, strings as literals; adjacent literals are joined."""
    flat: list[Node] = []
    for given in items:
        node = Literal(given) if isinstance(given, str) else given
        for item in node.items if isinstance(node, Seq) else (node,):
            if isinstance(item, Literal) and flat and isinstance(flat[-1], Literal):
                flat[-1] = Literal(flat[-1].text + item.text)
            elif item != EMPTY:
                flat.append(item)
    if not flat:
        return EMPTY
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def choice(items: Iterable[Node]) -> Node:
    """Return a choice of the items, at least one, without duplicates."""
    flat: dict[Node, None] = {}
    for node in items:
        for item in node.items if isinstance(node, Choice) else (node,):
            flat[item] = None
    unique = tuple(flat)
    return unique[0] if len(unique) == 1 else Choice(unique)


def optional(node: Node) -> Node:
    """Return ``node`` zero times or once."""
    return Repeat(node, 0, 1)


def chars(text: str) -> Chars:
    """Return the class of pairs of first and last character: ``chars("09az")`` is ``[0-9a-z]``."""
    return Chars(tuple((ord(text[i]), ord(text[i + 1])) for i in range(0, len(text), 2)))


def normalised(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the same code points as sorted, disjoint, non-adjacent ranges."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return all Unicode code points that are in none of the ranges."""
    gaps: list[tuple[int, int]] = []
    start = 0
    for first, last in normalised(ranges):
        if start < first:
            gaps.append((start, first - 1))
        start = last + 1
    if start <= LAST_CODE_POINT:
        gaps.append((start, LAST_CODE_POINT))
    return tuple(gaps)


@dataclass
class RuleBook:
    """Builder of rules. Equal bodies share one rule, so that a repeated subschema costs nothing."""

    rules: dict[str, Node] = field(default_factory=dict)
    _names: dict[Node, str] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)
    automata: dict[tuple[object, ...], Ref] = field(default_factory=dict)
    """Rules that refer to one another and are shared by what they describe."""

    def fresh(self, hint: str) -> str:
        """Return an unused rule name, to be defined by :meth:`define`. ``hint`` contains no digits."""
        number = self._used[hint] = self._used.get(hint, 0) + 1
        name = hint if number == 1 else f"{hint}-{number}"
        self.rules[name] = EMPTY
        return name

    def define(self, name: str, body: Node) -> None:
        """Set the body of a rule."""
        self.rules[name] = body

    def rule(self, body: Node, hint: str) -> Ref:
        """Return a reference to the rule with this body."""
        if isinstance(body, Ref):
            return body
        name = self._names.get(body)
        if name is None:
            name = self._names[body] = self.fresh(hint)
            self.rules[name] = body
        return Ref(name)

    def repeat(self, item: Node, minimum: int, maximum: int | None, hint: str) -> Node:
        """Return ``minimum`` to ``maximum`` times ``item``, which must not match the empty text.

        Counts above :data:`MAX_REPEAT` are composed of blocks. Raises :class:`OllamaError` 400 above
        :data:`MAX_COUNT`.
        """
        if max(minimum, maximum or 0) > MAX_COUNT:
            raise OllamaError(400, f"cannot enforce a count above {MAX_COUNT}")
        if maximum == 0:
            return EMPTY
        if not isinstance(item, Ref | Chars):
            # All rules of a repeated group count against llama.cpp's limit; a reference counts as one.
            item = self.rule(item, hint)
        if minimum == maximum:
            return self._exactly(item, minimum, hint)
        if minimum <= MAX_REPEAT and (maximum or 0) <= MAX_REPEAT:
            return Repeat(item, minimum, maximum)
        rest = Repeat(item, 0, None) if maximum is None else self._up_to(item, maximum - minimum, hint)
        return seq(self._exactly(item, minimum, hint), rest)

    def optional(self, item: Node, hint: str) -> Node:
        """Return ``item`` zero times or once."""
        # As in repeat, the repetitions in a group count against llama.cpp's limit.
        return optional(self.rule(item, hint) if _repetitions(item) > _MAX_GROUPED else item)

    def _exactly(self, item: Node, count: int, hint: str) -> Node:
        if not count:
            return EMPTY
        if count <= MAX_REPEAT:
            return item if count == 1 else Repeat(item, count, count)
        blocks, rest = divmod(count, MAX_REPEAT)
        return seq(Repeat(self._block(item, hint), blocks, blocks), self.repeat(item, rest, rest, hint))

    def _up_to(self, item: Node, count: int, hint: str) -> Node:
        if count <= MAX_REPEAT:
            return Repeat(item, 0, count)
        blocks, rest = divmod(count, MAX_REPEAT)
        block = self._block(item, hint)
        short = seq(self.repeat(block, 0, blocks - 1, hint), Repeat(item, 0, MAX_REPEAT - 1))
        full = seq(Repeat(block, blocks, blocks), self.repeat(item, 0, rest, hint))
        return choice([short, full])

    def _block(self, item: Node, hint: str) -> Ref:
        return self.rule(Repeat(item, MAX_REPEAT, MAX_REPEAT), f"{hint}-block")

    def text(self) -> str:
        """Return the rules as GBNF, ``root`` first, one on each line."""
        names = sorted(self.rules, key=lambda name: name != "root")
        return "".join(f"{name} ::= {_render(self.rules[name])}\n" for name in names)


_MAX_GROUPED = 100


def _repetitions(node: Node) -> int:
    """Return how many rules llama.cpp makes of the repetitions in a group, at most."""
    match node:
        case Seq(items) | Choice(items):
            return sum(map(_repetitions, items))
        case Repeat(item, minimum, maximum):
            return (minimum if maximum is None else maximum) * (1 + _repetitions(item))
        case _:
            return 0


_TOP, _ITEM, _REPEATED = 0, 1, 2


def _render(node: Node, place: int = _TOP) -> str:
    match node:
        case Literal(text):
            return '"' + "".join(_escaped(ord(character), '"\\') for character in text) + '"'
        case Chars(ranges):
            return "[" + "".join(_render_range(first, last) for first, last in ranges) + "]"
        case Ref(name):
            return name
        case Seq(items):
            text = " ".join(_render(item, _ITEM) for item in items)
            return f"({text})" if place == _REPEATED else text
        case Choice(items):
            text = " | ".join(_render(item, _TOP) for item in items)
            return text if place == _TOP else f"({text})"
        case Repeat(item, minimum, maximum):
            text = _render(item, _REPEATED) + _render_count(minimum, maximum)
            return f"({text})" if place == _REPEATED else text


def _render_count(minimum: int, maximum: int | None) -> str:
    signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    if (sign := signs.get((minimum, maximum))) is not None:
        return sign
    if minimum == maximum:
        return f"{{{minimum}}}"
    return f"{{{minimum},{'' if maximum is None else maximum}}}"


def _render_range(first: int, last: int) -> str:
    special = "\\[]-^"
    ends = _escaped(first, special)
    return ends if first == last else f"{ends}-{_escaped(last, special)}"


def _escaped(code: int, special: str) -> str:
    if code == 0x0A:
        return "\\n"
    if chr(code) in special:
        return "\\x5E" if code == 0x5E else "\\" + chr(code)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02X}"
    if code < 0x7F:
        return chr(code)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
