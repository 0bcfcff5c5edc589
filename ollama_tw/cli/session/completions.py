"""Completion in the interactive session: commands, parameters, model names, paths of files."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from ollama_tw.library.modelfile.parameters import KINDS

_WORDS = {
    "/set": (
        *("parameter", "system", "history", "nohistory", "wordwrap", "nowordwrap", "format", "noformat"),
        *("verbose", "quiet", "think", "nothink", "markdown", "plain", "fold", "nofold"),
    ),
    "/set format": ("json",),
    "/set think": ("low", "medium", "high", "max"),
    "/set parameter": tuple(KINDS),
    "/show": ("info", "license", "modelfile", "parameters", "system", "template"),
    "/help": ("set", "show", "shortcuts"),
    "/?": ("set", "show", "shortcuts"),
}
_MODELS = ("/load", "/save", "/list")
_FILES = ("/export",)
COMMANDS = (
    *("/set", "/show", "/load", "/save", "/list", "/clear", "/regenerate", "/edit", "/copy", "/export"),
    *("/tokens", "/thinking", "/help", "/bye"),
)
# The last part of a line that may be a path; a blank in it is escaped.
_PATH = re.compile(r"(?:\\.|[^\s'\"])*$")
_PATH_BEGINS = ("/", "./", "../", "~/", "\\", ".\\", "..\\")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


class SessionCompleter(Completer):
    """Completes the text before the cursor; ``models`` returns the names of the server's models."""

    def __init__(self, models: Callable[[], Sequence[str]]) -> None:
        self._models = models

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Return what may follow."""
        line = document.current_line_before_cursor
        if line.startswith("/") and document.cursor_position_row == 0:
            yield from self._of_command(line)
        if path := path_before(line):
            yield from _paths(path)

    def _of_command(self, line: str) -> Iterator[Completion]:
        before, _, word = line.rpartition(" ")
        candidates: Sequence[str] = ()
        if not before:
            candidates = COMMANDS
        elif before in _MODELS:
            candidates = self._models()
        else:
            candidates = _WORDS.get(" ".join(before.split()), ())
            if before in _FILES and not path_before(line):
                yield from _paths(word)
        yield from (Completion(one, -len(word)) for one in candidates if one.startswith(word))


def completes(line: str) -> bool:
    """Return whether Tab completes at the end of ``line``, which it otherwise indents."""
    return line.startswith("/") or bool(path_before(line))


def path_before(line: str) -> str:
    """Return the path at the end of ``line``, "" if there is none."""
    found = _PATH.search(line)
    text = found[0] if found else ""
    return text if text.startswith(_PATH_BEGINS) or _DRIVE.match(text) else ""


def _paths(written: str) -> Iterator[Completion]:
    text = re.sub(r"\\(.)", r"\1", written) if os.sep == "/" else written
    begin = text[max(map(text.rfind, filter(None, (os.sep, os.altsep)))) + 1 :]
    folder = Path(text[: len(text) - len(begin)] or ".").expanduser()
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError:
        return
    for path in found:
        if not path.name.startswith(begin) or (path.name.startswith(".") and not begin):
            continue
        name = path.name + (os.sep if path.is_dir() else "")
        rest = re.sub(r"([\s'\"\\()])", r"\\\1", name[len(begin) :]) if os.sep == "/" else name[len(begin) :]
        yield Completion(rest, 0, display=name)
