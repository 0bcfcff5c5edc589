"""Routes of the banner and the version.

Source: ollama: server/routes.go, GenerateRoutes.
"""

from dataclasses import dataclass

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import send_json, send_text
from ollama_tw.http.server.routing import Routes


@dataclass(frozen=True)
class VersionRoutes:
    """``/``, which clients use to test whether the server runs, and ``/api/version``."""

    reported: str
    """The version of Ollama that clients are to find."""

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/", self.root, Access.OPEN)
        routes.add("HEAD GET", "/api/version", self.version, Access.OPEN)

    def root(self, request: Request) -> None:
        """Send Ollama's banner."""
        send_text(request, "Ollama is running", content_type="text/plain; charset=utf-8")

    def version(self, request: Request) -> None:
        """Send the version of Ollama that the server is compatible with; ``Server:`` has its own."""
        send_json(request, {"version": self.reported})
