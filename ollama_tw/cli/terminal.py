"""Properties of the terminal, and the control sequences that the displays write."""

import os
import sys
from typing import Final, TextIO

_DEFAULT_SIZE = (80, 24)

# The terminal shows what is between the two at once; unknown to others, which ignore it.
BEGIN_UPDATE: Final = "\x1b[?2026h"
END_UPDATE: Final = "\x1b[?2026l"
HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
CLEAR_REST_OF_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


def is_dumb() -> bool:
    """Return whether the terminal has no control sequences."""
    return os.environ.get("TERM") == "dumb"


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return the columns and rows of the terminal of ``stream``, 80 by 24 where they are unknown."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _DEFAULT_SIZE
    return size.columns or _DEFAULT_SIZE[0], size.lines or _DEFAULT_SIZE[1]


def encodes(stream: TextIO, text: str) -> bool:
    """Return whether ``stream`` has the characters of ``text`` in its encoding."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def enable_control_sequences() -> None:
    """Have consoles of Windows interpret control sequences; one that cannot counts as dumb.

    Source: Microsoft, Console Virtual Terminal Sequences; SetConsoleMode.
    """
    if sys.platform != "win32":
        return
    import ctypes
    import msvcrt

    processed_output, virtual_terminal = 0x1, 0x4
    kernel = ctypes.windll.kernel32
    for stream in (sys.stdout, sys.stderr):
        if not stream.isatty():
            continue
        handle, mode = msvcrt.get_osfhandle(stream.fileno()), ctypes.c_ulong()
        if kernel.GetConsoleMode(handle, ctypes.byref(mode)) and not kernel.SetConsoleMode(
            handle, mode.value | processed_output | virtual_terminal
        ):
            os.environ["TERM"] = "dumb"
