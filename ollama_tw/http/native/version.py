"""Routes of the banner and the version.

Source: ollama: server/routes.go, GenerateRoutes.
"""

from twisted.web.http import Request

from ollama_tw import __version__
from ollama_tw.http.server.replies import send_json, send_text
from ollama_tw.http.server.routing import Routes


class VersionRoutes:
    """``/``, which clients use to test whether the server runs, and ``/api/version``."""

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/", self.root)
        routes.add("HEAD GET", "/api/version", self.version)

    def root(self, request: Request) -> None:
        """Send Ollama's banner."""
        send_text(request, "Ollama is running", content_type="text/plain; charset=utf-8")

    def version(self, request: Request) -> None:
        """Send the version of the server."""
        send_json(request, {"version": __version__})
