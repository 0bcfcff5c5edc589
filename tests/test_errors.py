"""Reasons in error texts."""

import errno
import os
import socket
from urllib.error import URLError

import pytest

from ollama_tw.errors import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret"), "permission denied"),
        (OSError(errno.ENOSYS, "only on Linux"), "only on Linux"),
        (OSError("TLS is required"), "TLS is required"),
        (ValueError("Bad Name"), "Bad Name"),
        ("Bad Name", "Bad Name"),
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), "timed out"),
        (TimeoutError(), "timed out"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such host"),
        (URLError(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), "connection refused"),
        (URLError("no host given"), "no host given"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
    ],
)
def test_reasons(error: Exception | str, reason: str) -> None:
    assert reason_of(error) == reason
