"""Grammars of objects and arrays, composed from the grammars of their members."""

from collections.abc import Sequence
from dataclasses import dataclass

from ollama_tw.grammar.gbnf import (
    EMPTY,
    Chars,
    Node,
    RuleBook,
    choice,
    complement,
    normalised,
    optional,
    seq,
)
from ollama_tw.grammar.tokens import Tokens, json_text, plain_characters


@dataclass(frozen=True, slots=True)
class Member:
    """Declared property: its name, the grammar of its value, and True if it is required."""

    name: str
    value: Node
    required: bool


def object_of(
    members: Sequence[Member], additional: Node | None, tokens: Tokens, *, empty: bool = True
) -> Node:
    """Return an object with the members in their order, then any number of members with other names.

    ``additional`` is the grammar of the values of those others; None allows none. Without ``empty``
    the object has a member.
    """
    book, space = tokens.book, tokens.space()
    written = [seq(json_text(member.name), ":", space, member.value) for member in members]
    more: Node = EMPTY
    heads: list[Node] = []
    if additional is not None:
        key = _other_key([member.name for member in members], book)
        other = book.rule(seq('"', key, '":', space, additional), "other")
        more = book.repeat(seq(",", space, other), 0, None, "next")
        heads.append(seq(other, more))
    pieces: list[Node] = []
    for member, text in zip(members, written, strict=True):
        piece = seq(",", space, text)
        pieces.append(piece if member.required else optional(piece))
    first_required = next((i for i, member in enumerate(members) if member.required), len(members))
    # The rest of the object after a member: one rule after the first required member, and one for
    # each optional member before it, with any of which the object may begin.
    tail = seq(*pieces[first_required + 1 :], more)
    if first_required < len(members):
        heads = [seq(written[first_required], tail)]
        tail = seq(pieces[first_required], tail)
    for i in range(first_required - 1, -1, -1):
        tail = book.rule(tail, "tail") if tail != EMPTY else tail
        heads.append(seq(written[i], tail))
        tail = seq(pieces[i], tail)
    if not heads:
        return book.rule(seq("{", space, "}"), "object")
    content = choice(reversed(heads))
    may_be_empty = empty and first_required == len(members)
    return book.rule(tokens.enclosed("{", content, "}", may_be_empty=may_be_empty), "object")


def record_of(key: Node, value: Node, minimum: int, maximum: int | None, tokens: Tokens) -> Node:
    """Return an object of ``minimum`` to ``maximum`` members with any names that match ``key``, a string."""
    book, space = tokens.book, tokens.space()
    if maximum == 0:
        return book.rule(seq("{", space, "}"), "object")
    member = book.rule(seq(key, ":", space, value), "member")
    left = None if maximum is None else maximum - 1
    content = seq(member, book.repeat(seq(",", space, member), max(minimum - 1, 0), left, "next"))
    return book.rule(tokens.enclosed("{", content, "}", may_be_empty=minimum == 0), "object")


def _other_key(names: Sequence[str], book: RuleBook) -> Node:
    """Return the inside of a key, at least one character and no escapes, that is not in ``names``."""
    plain = plain_characters([(0, 0x10FFFF)])
    any_rest = book.repeat(Chars(plain), 0, None, "key")
    following: dict[str, set[str]] = {"": set()}
    taken = {name for name in names if _is_plain(name)}
    for name in sorted(taken):
        for end in range(len(name)):
            following.setdefault(name[:end], set()).add(name[end])
            following.setdefault(name[: end + 1], set())
    rules: dict[str, Node] = {}
    for prefix in sorted(following, key=len, reverse=True):
        nexts = sorted(following[prefix])
        others = plain_characters(complement((ord(character), ord(character)) for character in nexts))
        branches = [seq(Chars(others), any_rest)]
        branches.extend(seq(character, rules[prefix + character]) for character in nexts)
        if prefix and prefix not in taken:
            branches.append(EMPTY)
        rules[prefix] = book.rule(choice(branches), "key")
    return rules[""]


def _is_plain(name: str) -> bool:
    """Return True if ``name`` can be written as a key without escapes."""
    codes = normalised((ord(character), ord(character)) for character in name)
    return plain_characters(codes) == codes


@dataclass(frozen=True, slots=True)
class Items:
    """Items of an array: ``prefix`` one by one, then ``rest``; the bounds count all items."""

    prefix: tuple[Node, ...]
    rest: Node | None
    minimum: int
    maximum: int | None


def array_of(items: Items, tokens: Tokens) -> Node | None:
    """Return an array of those items; None if the bounds cannot be satisfied."""
    book, space = tokens.book, tokens.space()
    minimum, maximum = items.minimum, items.maximum
    prefix = items.prefix if maximum is None else items.prefix[:maximum]
    if items.rest is None:
        maximum = len(prefix)
    if maximum is not None and minimum > maximum:
        return None
    if maximum == 0:
        return book.rule(seq("[", space, "]"), "array")
    nodes = list(prefix)
    if not nodes and items.rest is not None:
        nodes = [items.rest]
    tail: Node = EMPTY
    if items.rest is not None:
        left = None if maximum is None else maximum - len(nodes)
        further = seq(",", space, items.rest)
        tail = book.repeat(further, max(minimum - len(nodes), 0), left, "next")
    for i in range(len(nodes) - 1, 0, -1):
        tail = seq(",", space, nodes[i], tail)
        if i >= minimum:
            tail = optional(book.rule(tail, "tail"))
    content = seq(nodes[0], tail)
    return book.rule(tokens.enclosed("[", content, "]", may_be_empty=minimum == 0), "array")
