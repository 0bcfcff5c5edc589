"""Grammars of JSON strings that match several expressions and have a bounded length."""

from collections.abc import Sequence

from ollama_tw.grammar.ambiguity import is_ambiguous
from ollama_tw.grammar.automaton import intersection
from ollama_tw.grammar.gbnf import Node, RuleBook, seq
from ollama_tw.grammar.pattern import (
    Alternation,
    Class,
    Concatenation,
    Expression,
    PatternError,
    Repetition,
    parse_pattern,
)
from ollama_tw.grammar.strings import string_of, with_length, without_surrogates
from ollama_tw.grammar.tokens import Tokens


def text_of(
    expressions: Sequence[Expression], minimum: int, maximum: int | None, tokens: Tokens
) -> Node | None:
    """Return the strings that match all ``expressions``, at least one; None if there are none.

    Raises :class:`~ollama_tw.grammar.automaton.TooLarge` if there is no such grammar of a fair size.
    """
    if len(expressions) == 1:
        node = _single(expressions[0], minimum, maximum, tokens)
        if node is not None:
            return node
    automaton = intersection(expressions, minimum, maximum)
    if automaton is None:
        return None
    return tokens.book.rule(seq('"', automaton.text(tokens), '"'), "string")


def _single(expression: Expression, minimum: int, maximum: int | None, tokens: Tokens) -> Node | None:
    """Return the grammar in the form of the expression; None if it cannot have it, or is too ambiguous."""
    # A grammar that is not used must not leave rules behind.
    scratch = Tokens(RuleBook())
    try:
        bounded = with_length(expression, minimum, maximum)
        if is_ambiguous(string_of(bounded, scratch), scratch.book.rules):
            return None
    except PatternError:
        return None
    return string_of(bounded, tokens)


def checked_pattern(pattern: str) -> Expression:
    """Parse a pattern whose characters can be in a string. Raises :class:`PatternError`."""
    expression = parse_pattern(pattern)
    _check_characters(expression)
    return expression


def _check_characters(expression: Expression) -> None:
    match expression:
        case Class(ranges):
            if not without_surrogates(ranges):
                raise PatternError("a surrogate is not a character")
        case Concatenation(parts) | Alternation(parts):
            for part in parts:
                _check_characters(part)
        case Repetition(part, _, _):
            _check_characters(part)
