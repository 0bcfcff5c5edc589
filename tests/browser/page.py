"""The open page: what a user sees and does there."""

import re
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers.application import Application
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import Stream
from tests.llama.tiny_vision import write_projector


def _png() -> bytes:
    content = BytesIO()
    Image.new("RGB", (3, 2), "teal").save(content, "PNG")
    return content.getvalue()


IMAGE = _png()
"""A PNG file, three pixels wide."""


def install_vision(application: Application, directory: Path) -> None:
    """Install ``seer``, a model with a projector."""
    projector = directory / "projector.gguf"
    write_projector(projector)
    files = {
        "model.gguf": application.upload(tiny(directory, "seer", chat_template=CHATML)),
        "projector.gguf": application.upload(projector.read_bytes()),
    }
    reply = application.post("/api/create", {"model": "seer", "files": files, "stream": False})
    assert (reply.status, reply.json) == (200, {"status": "success"})


def stream(server: Application, prompt: str) -> Stream:
    """Start a completion of ``prompt``."""
    connection = server.connect()
    connection.connect()
    return Stream(connection.sock, "/api/generate", {"model": "m", "prompt": prompt})


def unload_all(server: Application) -> None:
    """Unload all models, and wait for one whose last use is just ending."""
    for loaded in server.get("/api/ps").json["models"]:
        assert server.post("/api/generate", {"model": loaded["name"], "keep_alive": 0}).status == 200
    while server.get("/api/ps").json["models"]:
        time.sleep(0.01)


class Shown:
    """The page of a server in a browser."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        """Errors of the scripts, and violations of the Content-Security-Policy."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        # A failed request is no error of the page: it shows it.
        if message.type == "error" and not re.match("Failed to load|WebSocket connection", message.text):
            self.errors.append(message.text)

    def goto(self, view: str, model: str) -> None:
        """Open a view, with a model chosen as in an earlier visit."""
        self.page.add_init_script(f"localStorage.setItem('ollama-model', '{model}:latest')")
        self.page.goto(f"{self.url}/ui#{view}")

    def send(self, text: str) -> None:
        """Type a message and send it with the keyboard."""
        self.page.get_by_label("Message", exact=True).fill(text)
        self.press_enter()

    def press_enter(self) -> None:
        """Send the message with the keyboard, as soon as it can be sent."""
        self.page.get_by_role("button", name="Send", exact=True).and_(
            self.page.locator("button:enabled")
        ).wait_for()
        self.page.get_by_label("Message", exact=True).press("Enter")

    @property
    def answer(self) -> Any:
        """The last answer."""
        return self.page.locator(".message.assistant").last

    def answered(self) -> Any:
        """Wait for the end of the last answer and return it."""
        self.page.locator(".message.assistant:last-child:not(.running)").wait_for()
        return self.answer
