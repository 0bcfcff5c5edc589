"""The signal SIGTERM, which Ray takes over when a process connects to a cluster, from any thread.

Ray's handler ends the process three seconds later; the server drains on SIGTERM.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_LARGEST = 1024
"""Bytes, more than the structure of sigaction() has on any system."""


@contextmanager
def kept_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM after the block.

    Python's own function does that on the main thread only.
    """
    if os.name != "posix":
        yield
        return
    library = ctypes.CDLL(None)
    action = ctypes.create_string_buffer(_LARGEST)
    known = library.sigaction(signal.SIGTERM, None, action) == 0
    try:
        yield
    finally:
        if known:
            library.sigaction(signal.SIGTERM, action, None)
