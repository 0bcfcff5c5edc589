"""Costs of deriving the descriptions of replies from chat templates, and of handling replies by them.

    python benchmarks/families.py [FOLDER]

FOLDER has chat templates as ``*.jinja``; without it, those of the test data are taken. Prints one line a
template: processor time to compile it, to find its properties by trials, to parse a token of its replies
in pieces of four characters, and to parse it and encode its record, the last three with their limits
below. The exit status is 1 if one is exceeded.
"""

import json
import lzma
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ollama_tw.golang import json as gojson
from ollama_tw.inference.records import ChatWriter
from ollama_tw.output.description import Description, Notation
from ollama_tw.output.stream_parser import StreamParser
from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.templates.compiled import compile_template
from ollama_tw.templates.reply_description import describe
from ollama_tw.templates.shapes import find_shape
from ollama_tw.templates.thinking_controls import find_controls
from ollama_tw.templates.trial import trial_of

MAX_PROBING = 0.050
"""Seconds to find all properties of one template."""
MAX_PARSING = 25e-6
"""Seconds to parse one token, and to encode its record."""

_VECTORS = Path(__file__).parent.parent / "tests/data/vectors"
_PIECE = 4
_REPEATS = 3
_PROSE = "The forecast says <rain>, [wind] & 12 degrees {in the north}, `then` sun.\n" * 40
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "n": {"type": "integer"}},
            },
        },
    }
    for name in ("write_file", "write", "read_file", "search", "run")
]


def _templates(folder: Path | None) -> dict[str, str]:
    if folder is not None:
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
    lines = lzma.decompress((_VECTORS / "chat_templates.jsonl.xz").read_bytes()).splitlines()
    return {each["name"]: each["source"] for each in map(json.loads, lines)}


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of the fastest of a few runs of ``work``."""
    times = []
    for _ in range(_REPEATS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def reply(description: Description) -> str:
    """Return a long reply: thinking, text with what looks like marks, and a call with a long argument."""
    thinking, calls = description.thinking, description.calls
    text = _PROSE
    if thinking is not None:
        text = thinking.open + _PROSE + thinking.close + text
    if calls is not None and calls.tagged is not None:
        tags = calls.tagged
        value = tags.key.open + "text" + tags.key.close + tags.value.open + _PROSE + tags.value.close
        text += (
            calls.section.open + calls.call.open + calls.name.open + "write_file" + calls.name.close + value
        )
    elif calls is not None and calls.notation is Notation.JSON:
        name = calls.name.open + "write_file" + calls.name.close
        value = json.dumps({calls.name_key: "write_file", calls.arguments_key: {"text": _PROSE}})
        text += calls.section.open + calls.call.open + name + value
    return text


def parse(description: Description, text: str) -> None:
    """Parse ``text`` in pieces."""
    parser = StreamParser(description, _TOOLS)
    for start in range(0, len(text), _PIECE):
        parser.feed(text[start : start + _PIECE])
    parser.finish()


def encode(description: Description, text: str) -> None:
    """Parse ``text`` in pieces, and encode a record for each event."""
    parser, writer = StreamParser(description, _TOOLS), ChatWriter("model")
    for start in range(0, len(text), _PIECE):
        for event in parser.feed(text[start : start + _PIECE]):
            gojson.encode(writer.record([event]))


def probe(source: str) -> None:
    """Find all properties of a compiled template anew."""
    for found in (trial_of, find_shape, find_controls, describe, find_capabilities):
        found.clear()
    find_capabilities(source)


def measure(templates: Iterable[tuple[str, str]]) -> bool:
    """Print the costs of each of ``templates``; return whether all are within the limits."""
    within = True
    print(f"{'template':48} {'compile ms':>10} {'derive ms':>10} {'parse µs/token':>14} {'and encode':>10}")
    for name, source in templates:
        compiling = seconds(lambda: compile_template.__wrapped__(source))  # noqa: B023
        probing = seconds(lambda: probe(source))  # noqa: B023
        description = describe(source)
        text = reply(description)
        parsing = seconds(lambda: parse(description, text)) / (len(text) / _PIECE)  # noqa: B023
        encoding = seconds(lambda: encode(description, text)) / (len(text) / _PIECE)  # noqa: B023
        within = within and probing <= MAX_PROBING and max(parsing, encoding) <= MAX_PARSING
        times = f"{compiling * 1e3:10.1f} {probing * 1e3:10.1f} {parsing * 1e6:14.1f} {encoding * 1e6:10.1f}"
        print(f"{name:48} {times}")
    return within


if __name__ == "__main__":
    sys.exit(not measure(_templates(Path(sys.argv[1]) if len(sys.argv) > 1 else None).items()))
