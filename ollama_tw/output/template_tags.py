"""Descriptions from the tags that are known of a Go template."""

import re
from dataclasses import replace

from ollama_tw.output.description import CallLayout, Description, Pair
from ollama_tw.output.known_layouts import COHERE, LFM2, MINISTRAL, OLMO3

_BARE = CallLayout()
# Tags after which the notation of calls is known.
_KNOWN = {
    layout.opening: layout for layout in (LFM2, OLMO3, COHERE, replace(MINISTRAL, call=Pair("[TOOL_CALLS]")))
}


def from_tags(
    tag: str | None, thinking_open: str | None = None, thinking_close: str | None = None
) -> Description:
    """Return the description for the tags of a Go template.

    ``tag`` begins tool calls: ``{`` if the template contains no other, empty or None for no calls.

    Source: ollama: tools/tools.go, NewParser; thinking/parser.go, Parser.
    """
    thinking = Pair(thinking_open, thinking_close) if thinking_open and thinking_close else None
    return Description(thinking, calls=_calls(tag) if tag else None, calls_in_thinking=False, trim=False)


def _calls(tag: str) -> CallLayout:
    """Return the layout for ``tag``.

    Brackets at the end of a tag belong to the calls, since models vary the white space before them.
    """
    bare = tag.rstrip("[ \t\r\n")
    if bare in ("", "{"):
        return _BARE
    return _KNOWN.get(bare) or CallLayout(call=Pair(bare, _closing(bare)))


def _closing(tag: str) -> str:
    fence = re.search(r"```\w*$", tag)
    if fence:
        return "```"
    element = re.search(r"<(\w[^<>|\s]*)>$", tag)
    if element:
        return f"</{element[1]}>"
    if (
        tag.startswith("<|")
        and tag.endswith("|>")
        and "start" not in tag.lower()
        and "begin" not in tag.lower()
    ):
        return tag.replace("<|", "<|/", 1)
    if tag.startswith("<") and tag.endswith(">"):
        for beginning, end in (("start", "end"), ("begin", "end"), ("START", "END"), ("BEGIN", "END")):
            if beginning in tag:
                return tag.replace(beginning, end)
    return ""
