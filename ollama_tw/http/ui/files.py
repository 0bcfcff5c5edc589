"""Files of the web page, as they are sent.

The page is sent with its style sheets and its first script in it, so that it is painted after one response;
the policy has their hashes. In ``static/`` they are files of their own.

Source: W3C Content Security Policy Level 3, section 6.7.3 (hashes); RFC 9110, section 8.4.1.3 (gzip).
"""

import gzip
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).with_name("static")
"""Folder of the files. It has no subfolders: the name of a file is the last segment of its path."""

PAGE = "index.html"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_STYLE_SHEET = re.compile(rb'<link rel="stylesheet" href="ui/([\w.-]+)">')
_SCRIPT = re.compile(rb'<script src="ui/([\w.-]+)"></script>')


@dataclass(frozen=True)
class StaticFile:
    """Content of a file and its media type."""

    content: bytes
    media_type: str

    @cached_property
    def compressed(self) -> bytes:
        """The content, compressed with gzip."""
        return gzip.compress(self.content, mtime=0)

    @cached_property
    def _digest(self) -> str:
        return sha256(self.content).hexdigest()

    def tag(self, *, compressed: bool) -> bytes:
        """Return the entity tag, which differs between the two forms (RFC 9110, section 8.8.3.3)."""
        return f'"{self._digest}{"-gzip" if compressed else ""}"'.encode()


@dataclass(frozen=True)
class PageFiles:
    """Files by their names, and the Content-Security-Policy of the page."""

    files: Mapping[str, StaticFile]
    policy: str


def read_files() -> PageFiles:
    """Return all files, the page with its style sheets and its first script in it."""
    files = {path.name: StaticFile(path.read_bytes(), _TYPES[path.suffix]) for path in STATIC.iterdir()}
    page = files[PAGE]
    styles = [files[name.decode()] for name in _STYLE_SHEET.findall(page.content)]
    scripts = [files[name.decode()] for name in _SCRIPT.findall(page.content)]
    content = _STYLE_SHEET.sub(
        lambda found: b"<style>%b</style>" % files[found[1].decode()].content, page.content
    )
    content = _SCRIPT.sub(lambda found: b"<script>%b</script>" % files[found[1].decode()].content, content)
    return PageFiles({**files, PAGE: StaticFile(content, page.media_type)}, _policy(scripts, styles))


def _policy(scripts: Sequence[StaticFile], styles: Sequence[StaticFile]) -> str:
    """Return the policy, which allows what this server sends and what is in the page itself."""
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *map(_hash, scripts))),
            " ".join(("style-src 'self'", *map(_hash, styles))),
            # Images that the user attaches are shown from memory.
            "img-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # No text can become markup or a script, not even by a mistake of the page's own scripts.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(file: StaticFile) -> str:
    return f"'sha256-{b64encode(sha256(file.content).digest()).decode()}'"


def accepts_gzip(accepted: str | None) -> bool:
    """Return whether the value of an Accept-Encoding header allows gzip."""
    weights = {
        coding.strip().lower(): weight.strip().lower()
        for coding, _, weight in (part.partition(";") for part in (accepted or "").split(","))
    }
    weight = weights.get("gzip", weights.get("*"))
    return weight is not None and re.fullmatch(r"q=0(\.0*)?", weight) is None
