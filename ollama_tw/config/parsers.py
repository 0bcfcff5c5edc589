"""Parsers of the values of environment variables; see :class:`ollama_tw.config.declaration.Variable`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from ollama_tw.config.declaration import SettingsError, Warn
from ollama_tw.config.host import is_loopback
from ollama_tw.golang.durations import FOREVER, parse_duration, seconds_to_duration

T = TypeVar("T")

MEBIBYTE = 1024 * 1024
CLOUD = "https://ollama.com:443"
"""URL of the server that runs cloud models."""

_MAX_VERSION = 64

_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}

_ORIGIN_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
LOCAL_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - compared, not bound
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
"""The origins that are always allowed, in addition to ``OLLAMA_ORIGINS``."""


def string(text: str, note: Warn) -> str:
    """Return the text."""
    return text


def version(text: str, note: Warn) -> str:
    """Return the text, a semantic version."""
    if len(text) > _MAX_VERSION or not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?", text):
        raise ValueError("is not a version such as 0.34.2")
    return text


def path(text: str, note: Warn) -> Path:
    """Return the path; a leading ``~`` is left in it."""
    return Path(text)


def path_if_set(text: str, note: Warn) -> Path | None:
    """Return the path; None for no text."""
    return Path(text) if text else None


def boolean(text: str, note: Warn) -> bool:
    """Parse as Go's ``strconv.ParseBool``; any other text is true, with a warning."""
    if text in _FALSE:
        return False
    if text not in _TRUE:
        note("is taken as true: the values are 1 or true, and 0 or false")
    return True


def verbosity(text: str, note: Warn) -> bool:
    """Parse a boolean, or a level of which numbers above 0 are true; other texts are invalid."""
    if text in _TRUE or (re.fullmatch("[0-9]+", text) and text.strip("0")):
        return True
    if text in _FALSE or re.fullmatch("-?[0-9]+", text):
        return False
    raise ValueError("is neither 1 or true nor 0 or false")


def optional(parse: Callable[[str, Warn], T]) -> Callable[[str, Warn], T | None]:
    """Return a parser like ``parse`` that gives None for the word ``auto``."""
    return lambda text, note: None if text == "auto" else parse(text, note)


def whole_number(minimum: int, maximum: int) -> Callable[[str, Warn], int]:
    """Return a parser of decimal digits without a sign, within inclusive bounds."""

    def parse(text: str, note: Warn) -> int:
        if not re.fullmatch("[0-9]{1,20}", text):
            raise ValueError("is not a whole number")
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError(f"is not from {minimum} to {maximum}")
        return value

    return parse


def mebibytes(maximum: int) -> Callable[[str, Warn], int]:
    """Return a parser of a whole number of MiB up to ``maximum``; its result is in bytes."""
    parse = whole_number(0, maximum)
    return lambda text, note: parse(text, note) * MEBIBYTE


@dataclass(frozen=True)
class MemoryShare:
    """A number of bytes, or if it is None a ``fraction`` of a memory whose size is known later."""

    size: int | None = None
    fraction: float = 0.0


NO_MEMORY = MemoryShare(0)


def memory_share(text: str, note: Warn) -> MemoryShare:
    """Parse ``4GB``, ``512MiB``, ``10%`` or 0; units are powers of 1024, with or without an i."""
    found = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?\s*(%|[KMGT]?i?B?)", text, re.IGNORECASE)
    if not found:
        raise ValueError("is not a size such as 4GB or 10%")
    value, unit = float(f"{found[1]}.{found[2] or 0}"), found[3].upper()
    if unit == "%":
        if value > 100:
            raise ValueError("is more than 100%")
        return MemoryShare(fraction=value / 100)
    power = "KMGT".find(unit[:1]) + 1 if unit[:1] and unit != "B" else 0
    return MemoryShare(int(value * 1024**power))


def duration(text: str, note: Warn) -> int:
    """Parse a Go duration or a number of seconds into nanoseconds; a negative one is FOREVER."""
    try:
        nanoseconds = parse_duration(text)
    except ValueError:
        if not re.fullmatch("[+-]?[0-9]{1,19}", text):
            raise ValueError("is not a duration such as 30s, 5m or -1") from None
        return seconds_to_duration(int(text))
    return FOREVER if nanoseconds < 0 else nanoseconds


def timeout(text: str, note: Warn) -> int:
    """Parse a duration; zero is FOREVER, too."""
    return duration(text, note) or FOREVER


def choice(*values: str) -> Callable[[str, Warn], str]:
    """Return a parser of one of ``values``, compared without case."""

    def parse(text: str, note: Warn) -> str:
        if text.lower() not in values:
            raise ValueError(f"is not one of {', '.join(values)}")
        return text.lower()

    return parse


def origins(text: str, note: Warn) -> tuple[str, ...]:
    """Parse a comma separated list of origins and append the local ones.

    Origins without a ``*`` are in lower case. Raises SettingsError for an invalid origin.

    Source: ollama: envconfig/config.go, AllowedOrigins; gin-contrib/cors: cors.go.
    """
    listed = []
    for entry in filter(None, map(str.strip, text.split(","))):
        if entry.count("*") > 1:
            raise SettingsError(f'OLLAMA_ORIGINS: only one * is allowed in the origin "{entry}"')
        if "*" not in entry:
            entry = entry.lower()
            if not entry.startswith(_ORIGIN_SCHEMES):
                raise SettingsError(
                    f'OLLAMA_ORIGINS: the origin "{entry}" must contain a * or begin with one of'
                    f" {', '.join(_ORIGIN_SCHEMES)}"
                )
        listed.append(entry)
    return tuple(dict.fromkeys((*listed, *LOCAL_ORIGINS)))


def host_names(text: str, note: Warn) -> tuple[str, ...]:
    """Parse a comma separated list of host names, in lower case."""
    return tuple(dict.fromkeys(filter(None, (name.strip().lower() for name in text.split(",")))))


def cloud_base_url(text: str, note: Warn) -> str:
    """Parse the URL of the cloud: the real one, or scheme and host of a server on this machine.

    Other servers are refused, because requests to it are signed with the server's key, and such a
    signature is valid at the real cloud as well.

    Source: ollama: server/cloud_proxy.go, resolveCloudProxyBaseURL.
    """
    if text == CLOUD:
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("is not an http or https URL")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("is more than a scheme and a host")
    if not is_loopback(parts.hostname):
        raise ValueError("does not lead to this machine")
    return f"{parts.scheme}://{parts.netloc}"
