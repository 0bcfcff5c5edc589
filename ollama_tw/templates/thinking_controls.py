"""The variables by which a chat template controls thinking, found by trial renderings.

Truth values are given under all their names. Which words a variable takes, and which of them mean off,
depends on the family: a word has a meaning if it is not treated like one that no template can have.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_tw.templates.shapes import THINKING_ON, find_shape, shaped, user
from ollama_tw.templates.trial import FoundOnce, trial_of
from ollama_tw.templates.variables import BUDGET, SWITCHES, WORDS

LEVELS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Words for levels of thinking, ascending."""
_USUAL_LEVELS = ("low", "medium", "high")
_OFF = ("no_think", "none", "off", "disabled", "disable", "nothink", "minimal")
_ON = ("enabled", "enable", "on", "think", "thinking")
_UNKNOWN = "xylem"
_LITERAL = re.compile(r"""(['"])([a-z][a-z_-]{1,15})\1""")


@dataclass(frozen=True)
class WordVariable:
    """A variable that takes a word."""

    levels: tuple[str, ...] = ()
    """The levels that have a meaning, ascending."""
    off: str | None = None
    on: str | None = None
    """The words for no thinking and for thinking, None if they are not needed."""
    ignores_others: bool = False
    """A word without a meaning is neither refused nor printed."""

    def word_for(self, level: str) -> str | None:
        """Return the word for ``level``, that of the nearest level which has a meaning."""
        if not self.levels:
            return self.on
        if level in self.levels or self.ignores_others or level not in LEVELS:
            return level
        rank = LEVELS.index(level)
        return min(self.levels, key=lambda each: (abs(LEVELS.index(each) - rank), -LEVELS.index(each)))


@dataclass(frozen=True)
class ThinkingControls:
    """The controls of thinking of one template."""

    switches: tuple[str, ...] = ()
    """Truth values that turn thinking on and off."""
    words: Mapping[str, WordVariable] = field(default_factory=dict)
    budget: bool = False
    """True if thinking is turned off by a budget of 0."""

    @property
    def can_switch_off(self) -> bool:
        """True if thinking can be turned off."""
        return bool(self.switches) or self.budget or any(word.off for word in self.words.values())

    def variables(self, think: bool | str | None, budget: int | None = None) -> dict[str, Any]:
        """Return the variables for ``think``: on, off, a level, or None for the template's default.

        ``budget`` is the maximum number of tokens of the thinking, None for no limit.
        """
        if think is None:
            return {}
        values: dict[str, Any] = dict.fromkeys(SWITCHES, bool(think))
        if think and budget is not None:
            values[BUDGET] = budget
        if think is False:
            chosen = {name: word.off for name, word in self.words.items()}
            if self.budget:
                values[BUDGET] = 0
        elif think is True:
            chosen = {name: word.on for name, word in self.words.items()}
        else:
            chosen = {name: word.word_for(think) for name, word in self.words.items()}
        return values | {name: word for name, word in chosen.items() if word is not None}


@FoundOnce
def find_controls(source: str) -> ThinkingControls:
    """Return the controls of a template. Raises :class:`TemplateError` if it does not compile."""
    trial, shape = trial_of(source), find_shape(source)

    def prompt(**variables: Any) -> str:
        return shaped(trial, shape, [user()], generation=True, **variables)

    switches = tuple(
        name
        for name in SWITCHES
        if name in trial.variables and prompt(**{name: True}) != prompt(**{name: False})
    )
    literals = [match[2] for match in _LITERAL.finditer(source)]
    words: dict[str, WordVariable] = {
        name: _word_variable(prompt, name, literals, bool(switches))
        for name in WORDS
        if name in trial.variables
    }
    budget = BUDGET in trial.variables and prompt() != prompt(**{BUDGET: 0})
    return ThinkingControls(switches, words, budget)


def _word_variable(prompt: Any, name: str, literals: Iterable[str], switched: bool) -> WordVariable:
    """Return what the words of the variable ``name`` mean; ``switched`` if truth values turn thinking off."""

    def with_word(word: str) -> str:
        return str(prompt(**THINKING_ON, **{name: word}))

    unknown = with_word(_UNKNOWN)

    def has_meaning(word: str) -> bool:
        text = with_word(word)
        return bool(text) and text != unknown.replace(_UNKNOWN, word)

    known = set(literals)
    levels = tuple(level for level in LEVELS if level in known and has_meaning(level))
    prints = _UNKNOWN in unknown
    if prints:
        levels = tuple(level for level in LEVELS if level in levels or level in _USUAL_LEVELS)
    default = str(prompt(**THINKING_ON))
    off = on = None
    if not switched:
        off = next((word for word in _OFF if word in known and has_meaning(word)), None)
        on = next((word for word in _ON if word in known and has_meaning(word)), None)
        if off is not None and on is None and with_word(off) == default:
            on = next(
                (level for level in ("high", *reversed(levels)) if level in levels and level != off), None
            )
    return WordVariable(levels, off, on, ignores_others=bool(unknown) and not prints)
