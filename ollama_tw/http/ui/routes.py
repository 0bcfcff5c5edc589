"""Routes of the web page: its files, and the headers that confine it in the browser.

Source: RFC 9110, sections 8.8.3 (ETag) and 12.5.3 (Accept-Encoding).
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from functools import cached_property

from twisted.web.http import CACHED, Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import send_bytes, send_text
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.ui.files import PAGE, PageFiles, accepts_gzip, read_files


class PageRoutes:
    """``/ui``, the page, and ``/ui/NAME``, its style sheets, scripts and icon."""

    @cached_property
    def _page(self) -> PageFiles:
        return read_files()

    @cached_property
    def _headers(self) -> dict[str, str]:
        """Headers of every file."""
        return {
            "Content-Security-Policy": self._page.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            # A browser revalidates each time: other versions of the server have other files.
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
        }

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/ui", self.page, Access.OPEN)
        routes.add("HEAD GET", "/ui/<name>", self.file, Access.OPEN)

    def page(self, request: Request) -> None:
        """Send the page."""
        self.file(request, PAGE)

    def file(self, request: Request, name: str) -> None:
        """Send the file ``name``; 304 where the browser has it, 404 for other names."""
        file = self._page.files.get(name)
        if file is None:
            send_text(request, "404 page not found", 404)
            return
        for header, value in self._headers.items():
            request.setHeader(header, value)
        compressed = accepts_gzip(request.getHeader("Accept-Encoding"))
        if compressed:
            request.setHeader("Content-Encoding", "gzip")
        if request.setETag(file.tag(compressed=compressed)) is not CACHED:
            send_bytes(request, file.compressed if compressed else file.content, 200, file.media_type)
