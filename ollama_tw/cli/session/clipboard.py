"""The clipboard: programs of the desktop, else the terminal."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from ollama_tw.cli.terminal import is_dumb

_SECONDS = 5


def copy(text: str) -> bool:
    """Put ``text`` on the clipboard; return whether something took it.

    A terminal that ignores the control sequence does so without a reply. Source: xterm, Control Sequences,
    OSC 52.
    """
    for command in _programs():
        try:
            # S603: the program is one of ours, found in the PATH.
            done = subprocess.run(command, input=text.encode(), timeout=_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return True
    if is_dumb() or not sys.stdout.isatty():
        return False
    sys.stdout.write(f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07")
    sys.stdout.flush()
    return True


def _programs() -> Iterator[list[str]]:
    candidates = []
    if os.environ.get("WAYLAND_DISPLAY"):
        candidates.append(["wl-copy"])
    if os.environ.get("DISPLAY"):
        candidates += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    if sys.platform == "darwin":
        candidates.append(["pbcopy"])
    if sys.platform == "win32":
        candidates.append(["clip"])
    for name, *arguments in candidates:
        if path := shutil.which(name):
            yield [path, *arguments]
