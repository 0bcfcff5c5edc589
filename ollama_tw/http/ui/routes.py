"""Routes of the web page: its files, and the headers that confine it in the browser.

Source: W3C Content Security Policy Level 3; RFC 9110, section 8.8.3 (ETag).
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from twisted.web.http import CACHED, Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import send_bytes, send_text
from ollama_tw.http.server.routing import Routes

STATIC = Path(__file__).with_name("static")
"""Folder of the files. It has no subfolders: the name of a file is the last segment of its path."""

PAGE = "index.html"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
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

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A browser asks each time whether the file has changed: another version of the server has other files.
    "Cache-Control": "no-cache",
}
"""Headers of every file."""


@dataclass(frozen=True)
class StaticFile:
    """Content of a file, its media type and its entity tag."""

    content: bytes
    media_type: str
    tag: bytes


class PageRoutes:
    """``/ui``, the page, and ``/ui/NAME``, its style sheets, scripts and icon."""

    @cached_property
    def _files(self) -> dict[str, StaticFile]:
        files = {}
        for path in STATIC.iterdir():
            content = path.read_bytes()
            tag = f'"{sha256(content).hexdigest()}"'.encode()
            files[path.name] = StaticFile(content, _TYPES[path.suffix], tag)
        return files

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/ui", self.page, Access.OPEN)
        routes.add("HEAD GET", "/ui/<name>", self.file, Access.OPEN)

    def page(self, request: Request) -> None:
        """Send the page."""
        self.file(request, PAGE)

    def file(self, request: Request, name: str) -> None:
        """Send the file ``name``; 304 where the browser has it, 404 for other names."""
        file = self._files.get(name)
        if file is None:
            send_text(request, "404 page not found", 404)
            return
        for header, value in HEADERS.items():
            request.setHeader(header, value)
        if request.setETag(file.tag) is not CACHED:
            send_bytes(request, file.content, 200, file.media_type)
