"""Commands of the interactive session about its conversation that Ollama lacks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ollama_tw.cli.session.clipboard import copy
from ollama_tw.cli.session.export import export
from ollama_tw.cli.session.state import State
from ollama_tw.errors import OllamaError, reason_of


class ConversationCommands:
    """Runs commands on the conversation of ``state``."""

    def __init__(self, state: State) -> None:
        self._state = state

    def table(self) -> Sequence[tuple[str, Callable[[Sequence[str]], None]]]:
        """Return the commands and what runs them."""
        return (
            ("/copy", self._copy),
            ("/export", self._export),
            ("/tokens", self._tokens),
            ("/thinking", self._thinking),
        )

    def _copy(self, words: Sequence[str]) -> None:
        answer = self._state.last_answer()
        if answer is None:
            print("No answer yet.")
        elif copy(answer["content"]):
            print("Copied the answer.")
        else:
            print("No clipboard was found.")

    def _export(self, words: Sequence[str]) -> None:
        name = " ".join(words)
        path = Path(name).expanduser()
        if path.suffix.lower() not in (".md", ".json"):
            print("Usage:\n  /export <file.md or file.json>")
            return
        try:
            export(path, self._state.found.name, self._state.whole_conversation())
        except OSError as error:
            raise OllamaError(0, f"{reason_of(error)}: {path}") from error
        print(f"Wrote '{path}'")

    def _tokens(self, words: Sequence[str]) -> None:
        print(self._state.usage.report(), end="")

    def _thinking(self, words: Sequence[str]) -> None:
        answer = self._state.last_answer()
        print((answer or {}).get("thinking") or "No thinking.")
