"""The full screen of ``ollama top``: keys, and a thread that queries the server every second."""

import threading
from collections.abc import Callable

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window

from ollama_tw.cli.client import Client
from ollama_tw.cli.top.screen import screen
from ollama_tw.cli.top.snapshot import Snapshot, take_snapshot

_INTERVAL_SECONDS = 1.0


def show(client: Client) -> None:
    """Show the screen until the user quits; the terminal is then as it was before."""
    latest = [take_snapshot(client)]
    ended = threading.Event()
    application = _application(lambda: latest[0], client.url)

    def refresh() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            latest[0] = take_snapshot(client)
            application.invalidate()

    # A request of a server that hangs is not waited for at the end.
    threading.Thread(target=refresh, daemon=True).start()
    try:
        application.run()
    finally:
        ended.set()


def _application(snapshot: Callable[[], Snapshot], address: str) -> Application[None]:
    keys = KeyBindings()

    @keys.add("q")
    @keys.add("Q")
    @keys.add("c-c")
    @keys.add("c-d")
    def quit_screen(event: KeyPressEvent) -> None:
        event.app.exit()

    application: Application[None]

    def lines() -> StyleAndTextTuples:
        size = application.output.get_size()
        shown = screen(snapshot(), address, size.columns, size.rows)
        return [("bold" if line.is_title else "", f"{line.text}\n") for line in shown]

    control = FormattedTextControl(lines, show_cursor=False)
    application = Application(
        Layout(Window(control, wrap_lines=False, always_hide_cursor=True)),
        key_bindings=keys,
        full_screen=True,
    )
    return application
