"""Record of the files that were changed, and their originals. Blocking.

The record is ``launch.json`` below ``~/.ollama``, the originals are in the directory ``launch`` there.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tw.cli.command import UsageError
from ollama_tw.cli.launch.edits import Edit, EditError


@dataclass(frozen=True)
class Change:
    """The text of a file before and after an edit, None for a file that does not exist."""

    path: Path
    before: str | None
    after: str | None

    @property
    def is_needed(self) -> bool:
        """True if the file has another text than it is to have."""
        return self.before != self.after


class Record:
    """Record of the configured programs, in the directory ``home``, usually ``~/.ollama``."""

    def __init__(self, home: Path) -> None:
        self._file = home / "launch.json"
        self._originals = home / "launch"
        try:
            self._programs: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            self._programs = {}
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self._file} is damaged: remove it") from error

    def model(self, name: str) -> str:
        """Return the model that a program was configured with last, "" for none."""
        return str(self._programs.get(name, {}).get("model", ""))

    def url(self, name: str) -> str:
        """Return the address of the server that a program was configured with last, "" for none."""
        return str(self._programs.get(name, {}).get("url", ""))

    def is_configured(self, name: str) -> bool:
        """Return whether files of a program were changed."""
        return bool(self._programs.get(name, {}).get("files"))

    def changes(self, name: str, edits: Sequence[Edit], earlier: Sequence[Edit]) -> list[Change]:
        """Return what the edits would change, in place of the ``earlier`` ones; raises UsageError."""
        before = {edit.path: edit for edit in earlier}

        def edited(edit: Edit, text: str) -> str:
            last = before.get(edit.path)
            return edit.applied(text if last is None else last.undone(text, self._original(name, edit)))

        return [_change(edit, edited) for edit in edits]

    def undoing(self, name: str, edits: Sequence[Edit]) -> list[Change]:
        """Return what undoing the edits would change; raises UsageError."""
        return [
            _change(edit, lambda edit, text: edit.undone(text, self._original(name, edit))) for edit in edits
        ]

    def note(self, name: str, model: str, url: str, changes: Sequence[Change]) -> None:
        """Keep the originals of the files, unless there are some already, and write the record."""
        files = dict(self._programs.get(name, {}).get("files", {}))
        for change in changes:
            if str(change.path) in files:
                continue
            kept = None
            if change.before is not None:
                kept = self._originals / name / change.path.name
                _write(kept, change.before)
            files[str(change.path)] = str(kept) if kept is not None else None
        self._programs[name] = {"model": model, "url": url, "files": files}
        self._save()

    def forget(self, name: str) -> None:
        """Remove a program from the record; the originals are left."""
        self._programs.pop(name, None)
        self._save()

    def original_file(self, name: str, path: Path) -> str:
        """Return where the original of a file is kept, "" if it did not exist."""
        return self._programs.get(name, {}).get("files", {}).get(str(path)) or ""

    def _original(self, name: str, edit: Edit) -> str:
        kept = self.original_file(name, edit.path)
        return Path(kept).read_text("utf-8") if kept else ""

    def _save(self) -> None:
        _write(self._file, json.dumps(self._programs, indent=2) + "\n")


def write_changes(changes: Sequence[Change]) -> None:
    """Write the files, and remove those that had not existed. Raises OSError."""
    for change in changes:
        if change.after is not None:
            _write(change.path, change.after)
        else:
            change.path.unlink(missing_ok=True)


def _change(edit: Edit, edited: Callable[[Edit, str], str]) -> Change:
    """Return the change of the file of an edit; raises UsageError if it cannot be made."""
    try:
        before = edit.path.read_text("utf-8")
    except FileNotFoundError:
        before = None
    except UnicodeDecodeError as error:
        raise UsageError(f"{edit.path} is not UTF-8 text") from error
    try:
        after = edited(edit, before or "")
    except EditError as error:
        raise UsageError(f"{edit.path} {error}: correct the file, or set up the program by hand") from error
    return Change(edit.path, before, after or None)


def _write(path: Path, text: str) -> None:
    """Replace a file at once, the target of a symbolic link rather than the link; keep its permissions."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if path.exists():
            Path(name).chmod(path.stat().st_mode & 0o777)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
