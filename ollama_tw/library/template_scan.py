"""What a Go template uses, found without executing it.

A scan of the ``{{ … }}`` actions, not a parser: strings and comments are skipped, what is left is
searched for fields and variables. For templates that parse it agrees with the template engine.

Source: ``spec/models-and-cli.md`` sections 5.2 and 7.1, ``spec/inference-api.md`` section 12.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

DEFAULT_TEMPLATE = "{{ .Prompt }}"

_STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`|\'(?:\\.|[^\'\\])*\''
_ACTION = re.compile(
    r"\{\{(?P<left>-[ \t\r\n])?\s*(?P<body>/\*.*?\*/|(?:" + _STRING + r"|(?!\}\}).)*?)\s*(?P<right>-)?\}\}",
    re.DOTALL,
)
_STRINGS = re.compile(_STRING, re.DOTALL)
_IDENTIFIER = re.compile(r"\$\w*|\.[A-Za-z_]\w*")
# The names that a variable declaration gives; only what is read counts.
_DECLARED = re.compile(r"\$\w*(?:\s*,\s*\$\w*)?\s*:?=")
_WORD = re.compile(r"[a-z]+")
_OPENING = frozenset({"if", "with", "range", "block", "define"})


@dataclass(frozen=True)
class TemplateTraits:
    """``identifiers``: lower-cased names of fields and variables; ``thinking_tags``: the texts that
    open and close a message's thoughts, None where the template shows none."""

    identifiers: frozenset[str]
    thinking_tags: tuple[str, str] | None


@dataclass
class _NodeList:
    """The nodes between two control actions; a text node is a string, any other one is None."""

    over_messages: bool | None
    nodes: list[str | None] = field(default_factory=list)
    mentions_thinking: bool = False

    def tags(self) -> tuple[str, str] | None:
        if not (self.over_messages and self.mentions_thinking and self.nodes):
            return None
        first, last = self.nodes[0], self.nodes[-1]
        if first is None or last is None or not first.strip() or not last.strip():
            return None
        return first.strip(), last.strip()


@lru_cache(maxsize=4096)
def scan_template(text: str) -> TemplateTraits:
    """The traits of the Go template ``text``; remembered, since every listing asks for them."""
    identifiers: set[str] = set()
    tags: tuple[str, str] | None = None
    lists = [_NodeList(over_messages=None)]
    position, trim_left = 0, False
    for action in _ACTION.finditer(text):
        _add_text(lists[-1], text[position : action.start()], trim_left, bool(action["left"]))
        position, trim_left = action.end(), bool(action["right"])
        body = action["body"]
        if body.startswith("/*"):
            continue
        code = _DECLARED.sub(" ", _STRINGS.sub(" ", body))
        names = {found.lstrip(".").lower() for found in _IDENTIFIER.findall(code)}
        identifiers |= names
        word = _WORD.match(code)
        keyword = word[0] if word else ""
        if keyword in ("end", "else"):
            closed = lists.pop() if len(lists) > 1 else lists[0]
            tags = closed.tags() or tags
            if keyword == "else":
                lists.append(_NodeList(closed.over_messages))
            continue
        lists[-1].nodes.append(None)
        if keyword in _OPENING:
            over = "messages" in names if keyword == "range" else lists[-1].over_messages
            lists.append(_NodeList(over))
        elif "thinking" in names:
            lists[-1].mentions_thinking = True
    if not identifiers & {"messages", "response"}:
        identifiers.add("response")
    return TemplateTraits(frozenset(identifiers), tags)


def _add_text(nodes: _NodeList, text: str, trim_left: bool, trim_right: bool) -> None:
    if trim_left:
        text = text.lstrip(" \t\r\n")
    if trim_right:
        text = text.rstrip(" \t\r\n")
    if text:
        nodes.nodes.append(text)
