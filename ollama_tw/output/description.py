"""Description of what a model's replies look like: thinking, content, and tool calls, as frozen data.

The stream parser and the grammars of tool calls both follow it. It is derived from the model's own
template (``templates/reply_description.py``) or stands in ``known_layouts.py``. All texts are as the
template writes them, white space included; the parser takes white space at their ends, and runs of it
inside, as optional.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, auto
from typing import Any

HOLE = "\ufdd0"
"""In a text of a description: a short text that varies, such as an index or the type of a value."""
KEY = "\ufdd1"
"""In the text after a value: the argument's key."""


class Shape(Enum):
    """Place of the function's name in a call."""

    OBJECT = auto()
    """One JSON object with the name and the arguments under keys of their own."""
    KEYED = auto()
    """One JSON object whose key is the name and whose value is the arguments."""
    NAME_FIRST = auto()
    """The name, then the arguments."""


class Notation(Enum):
    """Notation of arguments after a name. OBJECT and KEYED calls are always JSON."""

    JSON = auto()
    """One JSON object."""
    TAGGED = auto()
    """A pair of texts around each key and each value (:class:`TaggedArguments`)."""
    PYTHON = auto()
    """``(KEY=VALUE, …)`` with Python's literals."""
    GEMMA = auto()
    """``{KEY:VALUE,…}`` with bare keys; strings stand between :attr:`CallLayout.quote`."""


class IdPlace(Enum):
    """Place of a call's id, between the texts of :attr:`CallLayout.id`."""

    NONE = auto()
    FIELD = auto()
    """In the object, under :attr:`CallLayout.id_key`."""
    BEFORE_NAME = auto()
    AFTER_NAME = auto()
    AFTER_ARGUMENTS = auto()
    IN_NAME = auto()
    """The name is written as ``functions.NAME:INDEX``, which is the call's id."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Texts before and after something; either may be empty."""

    open: str = ""
    close: str = ""


@dataclass(frozen=True, slots=True)
class TaggedArguments:
    """Texts around keys and values: key.open KEY key.close value.open VALUE value.close."""

    key: Pair
    value: Pair
    """``close`` may contain :data:`KEY`, and ``key.close`` a :data:`HOLE` for the type of the value."""
    separator: str = ""
    """Text between two arguments."""
    types: tuple[tuple[str, str], ...] = ()
    """The text in the hole for each JSON type, as (``string``, ``true``). Other texts mean JSON."""
    encoded: bool = False
    """All values are JSON, texts included."""
    cdata: bool = False
    """A value may stand between ``<![CDATA[`` and ``]]>``."""


@dataclass(frozen=True, slots=True)
class CallLayout:
    """Layout of tool calls.

    section.open [``[``] CALL separator CALL … [``]``] section.close, where CALL is call.open, the call in
    its shape, call.close. A NAME_FIRST call is name.open NAME name.close ARGUMENTS; the id, where it has
    one, is id.open ID id.close at its place. Without a section and call.open, the reply begins with a call.
    """

    section: Pair = Pair()
    call: Pair = Pair()
    separator: str = ""
    shape: Shape = Shape.OBJECT
    notation: Notation = Notation.JSON
    array: bool = False
    """The calls are the items of one array."""
    name: Pair = Pair()
    name_key: str = "name"
    arguments_key: str = "arguments"
    id_key: str = ""
    wrapper: str = ""
    """Key of an inner object that contains the name and the arguments."""
    id_place: IdPlace = IdPlace.NONE
    id: Pair = Pair()
    tagged: TaggedArguments | None = None
    quote: str = ""
    """Text on both sides of a string in Gemma's notation."""
    bare: bool = False
    """The text that begins the calls may be missing where they begin the reply."""
    compact: bool = False
    """JSON is written without spaces after colons and commas."""

    @property
    def opening(self) -> str:
        """The text that begins the calls of a reply; empty if they begin with their own bracket or name."""
        return self.section.open or self.call.open or self.name.open

    @property
    def leads(self) -> bool:
        """True if no text marks the beginning of a call: only a reply that begins with one has calls."""
        return not self.opening.strip()


@dataclass(frozen=True, slots=True)
class Turns:
    """Reply of several messages, each with a header that names its kind or its recipient.

    A header ends with ``header_end`` and a message with one of ``closes``; before the header of a further
    message stands ``open``, which the prompt has written for the first one.
    """

    open: str
    header_end: str
    closes: tuple[str, ...]
    thinking: tuple[str, ...]
    """Texts in the headers of thinking."""
    content: tuple[str, ...]
    """Texts in the headers of content."""
    recipient: str
    """Text before a function's name in the header of a call."""


@dataclass(frozen=True, slots=True)
class Description:
    """A model's replies; without thinking and calls all text is content."""

    thinking: Pair | None = None
    """Texts around thinking. An empty ``open``: the template never writes one, thinking begins the reply."""
    content: Pair | None = None
    """Texts around the answer itself."""
    calls: CallLayout | None = None
    turns: Turns | None = None
    """Replies of several messages, whose kinds the headers show; ``thinking`` is for grammars then."""
    ends: tuple[str, ...] = ()
    """Texts that end the model's turn; they are no part of the reply where they end it."""
    generation: Pair = Pair()
    """End of a prompt for a reply, with thinking on (``open``) and off (``close``)."""
    calls_in_thinking: bool = True
    """Marked calls are parsed within thinking too: the model may omit its closing text before them."""
    trim: bool = True
    """White space at the end of thinking and around calls is dropped."""

    def lead(self, prompt: str) -> str:
        """Return the end of ``prompt`` that begins the reply: the marks with which it ends."""
        if self.turns is not None:
            marks = [self.turns.open]
        else:
            pairs = [pair for pair in (self.thinking, self.content) if pair is not None]
            marks = [mark.strip() for pair in pairs for mark in (pair.open, pair.close) if mark.strip()]
        start = len(prompt)
        while True:
            end = len(prompt[max(0, start - _MAX_SPACE) : start].rstrip()) + max(0, start - _MAX_SPACE)
            mark = next((mark for mark in marks if prompt.endswith(mark, 0, end)), None)
            if mark is None:
                return prompt[start:]
            start = end - len(mark)

    def opened(self, prompt: str) -> bool | None:
        """Return whether ``prompt`` opens the thinking of the reply; None if there is none, or no more."""
        if self.thinking is None:
            return None
        lead, opening, closing = self.lead(prompt), self.thinking.open.strip(), self.thinking.close.strip()
        if self.turns is not None or not lead:
            return False
        if closing in lead or not (opening and opening in lead):
            return None
        return True

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts at which generation ends: those of :attr:`ends` that no mark within a reply contains."""
        within = tuple(_texts(self))
        return tuple(end for end in self.ends if not any(end in text for text in within))

    @property
    def preserved(self) -> tuple[str, ...]:
        """The texts that may be control tokens of the vocabulary and must come out of it."""
        found: dict[str, None] = {}
        for text in _texts(self):
            for mark in _MARK.findall(text):
                found[mark] = None
            found[text.strip()] = None
        return tuple(text for text in found if len(text) > 1 and HOLE not in text and KEY not in text)


_MAX_SPACE = 64
"""Maximum white space around the marks at the end of a prompt, in characters."""
_MARK = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)
    elif is_dataclass(value):
        for field in fields(value):
            if field.name not in (
                "generation",
                "ends",
                "types",
                "name_key",
                "arguments_key",
                "id_key",
                "wrapper",
            ):
                yield from _texts(getattr(value, field.name))
