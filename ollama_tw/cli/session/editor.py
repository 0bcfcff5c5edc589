"""Line editor of the interactive session: history, completion, keys, status line, external editor."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from ollama_tw.cli.session.completions import SessionCompleter, completes
from ollama_tw.cli.session.history import LineHistory
from ollama_tw.cli.terminal import is_dumb
from ollama_tw.cli.variables import EDITOR, NO_HISTORY

_PLACEHOLDER = "Send a message (/? for help)"
_CONTINUED_PLACEHOLDER = 'Use """ to end multi-line input'
_TAB = " " * 8
_STYLE = Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"})


class Editor:
    """Reads lines from the terminal.

    ``models`` returns the names of the server's models, ``status`` the status line for a number of columns.
    """

    def __init__(self, models: Callable[[], Sequence[str]], status: Callable[[int], str]) -> None:
        enabled = not NO_HISTORY.read(os.environ, lambda text: None)
        self.history = LineHistory(Path.home() / ".ollama" / "history", enabled=enabled)
        if editor := EDITOR.read(os.environ, lambda text: None):
            # The variable that prompt-toolkit reads first.
            os.environ["VISUAL"] = editor
        self._session: PromptSession[str] | None = None
        if is_dumb():
            return
        self._session = PromptSession(
            history=self.history,
            key_bindings=_bindings(),
            enable_history_search=True,
            completer=SessionCompleter(models),
            complete_while_typing=False,
            complete_in_thread=True,
            prompt_continuation="... ",
            tempfile_suffix=".md",
            bottom_toolbar=lambda: status(get_app().output.get_size().columns),
            style=_STYLE,
        )

    def read(self, *, continued: bool = False, default: str = "") -> str:
        """Return a line, or several that were pasted; ``continued`` within a multi-line message.

        The line begins as ``default``. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C; its argument
        is the text that was discarded.
        """
        prompt = "... " if continued else ">>> "
        if self._session is None:
            return self._read_plainly(prompt, default)
        placeholder = _CONTINUED_PLACEHOLDER if continued else _PLACEHOLDER
        try:
            return self._session.prompt(
                prompt,
                placeholder=FormattedText([("ansibrightblack", placeholder)]),
                default=default,
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._session.default_buffer.text) from error

    def _read_plainly(self, prompt: str, default: str) -> str:
        """Return a line of a terminal without control sequences; the user has to repeat ``default``."""
        if default:
            print(default)
        try:
            line = input(prompt)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt("") from error
        self.history.append_string(line)
        return line


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-j")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("tab")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
        elif completes(buffer.document.current_line_before_cursor):
            buffer.start_completion(insert_common_part=True)
        else:
            buffer.insert_text(_TAB)

    @bindings.add("c-g")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    return bindings
