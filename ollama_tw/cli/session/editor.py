"""Line editor of the interactive session: history, keys, placeholder, external editor."""

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ollama_tw.cli.session.history import LineHistory
from ollama_tw.cli.variables import EDITOR, NO_HISTORY

_PLACEHOLDER = "Send a message (/? for help)"
_CONTINUED_PLACEHOLDER = 'Use """ to end multi-line input'
_TAB = " " * 8


class Editor:
    """Reads lines from the terminal."""

    def __init__(self) -> None:
        enabled = not NO_HISTORY.read(os.environ, lambda text: None)
        self.history = LineHistory(Path.home() / ".ollama" / "history", enabled=enabled)
        if editor := EDITOR.read(os.environ, lambda text: None):
            # The variable that prompt-toolkit reads first.
            os.environ["VISUAL"] = editor
        self._session: PromptSession[str] = PromptSession(
            history=self.history,
            key_bindings=_bindings(),
            enable_history_search=False,
            prompt_continuation="... ",
            tempfile_suffix=".md",
        )

    def read(self, *, continued: bool = False) -> str:
        """Return a line, or several that were pasted; ``continued`` within a multi-line message.

        Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C; its argument is the text that was discarded.
        """
        placeholder = _CONTINUED_PLACEHOLDER if continued else _PLACEHOLDER
        try:
            return self._session.prompt(
                "... " if continued else ">>> ",
                placeholder=FormattedText([("ansibrightblack", placeholder)]),
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._session.default_buffer.text) from error


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-j")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("tab")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(_TAB)

    @bindings.add("c-g")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    return bindings
