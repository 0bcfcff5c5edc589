"""The interactive session: reads messages, prints answers, until ``/bye`` or Ctrl-D.

Source: ollama: cmd/interactive.go, generateInteractive; cmd/cmd.go, chat.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ollama_tw.cli.answer import Answer, Style, summary
from ollama_tw.cli.attachments import extract, is_file, paths_in
from ollama_tw.cli.chats import Chats
from ollama_tw.cli.client import Client
from ollama_tw.cli.completion import model_names
from ollama_tw.cli.loading import load_if_allowed
from ollama_tw.cli.lookup import show
from ollama_tw.cli.once import INCOMPLETE
from ollama_tw.cli.progress import Progress
from ollama_tw.cli.session.commands import Commands
from ollama_tw.cli.session.editor import Editor
from ollama_tw.cli.session.state import State
from ollama_tw.cli.session.usage import Usage
from ollama_tw.errors import OllamaError
from ollama_tw.library.names import InvalidName, parse_name

_QUOTES = '"""'
_SET_SYSTEM = "/set system "
_LEAVING = ("/bye", "/exit")
_REGENERATE, _EDIT = "/regenerate", "/edit"


def run(client: Client, state: State) -> None:
    """Load the model, then hold the session. Raises OllamaError if the model cannot be loaded."""
    fields = {"keep_alive": state.keep_alive} if state.keep_alive is not None else {}
    load_if_allowed(client, state.found.name, **fields)
    _replay(state, state.found.shown.get("messages") or ())
    _replay(state, state.messages)
    Session(client, state).run()


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message of the user, and its index in the conversation; None for one at the end."""

    message: dict[str, Any]
    at: int | None = None


class Session:
    """A session on the terminal."""

    def __init__(self, client: Client, state: State) -> None:
        self._client = client
        self._state = state
        self._editor = Editor(self._models, lambda columns: state.usage.status(state.found.name, columns))
        self._commands = Commands(client, state, self._editor.history)
        self._chats = Chats()
        self._edited: _Turn | None = None
        """The turn that the next message replaces."""
        self._failed: _Turn | None = None
        """The last turn, if it was not answered. It is not part of the conversation."""

    def run(self) -> None:
        """Handle one line after another. An error of the server is printed, and the session continues."""
        while True:
            default = "" if self._edited is None else self._edited.message["content"]
            try:
                line = self._editor.read(default=default)
            except EOFError:
                print()
                return
            except KeyboardInterrupt as interrupt:
                if interrupt.args == ("",):
                    print("\nUse Ctrl + d or /bye to exit.")
                self._edited = None
                continue
            if line.startswith(_LEAVING):
                return
            try:
                self._handle(line)
            except OllamaError as error:
                print(f"error: {error.message}", file=sys.stderr)
            except KeyboardInterrupt:
                print()

    def _handle(self, line: str) -> None:
        edited, self._edited = self._edited, None
        if line.startswith(_SET_SYSTEM):
            text = self._quoted(line.removeprefix(_SET_SYSTEM).strip(" "))
            if text is not None:
                self._state.set_system(text)
                print("Set system message.")
        elif line.startswith(_QUOTES):
            text = self._quoted(line)
            if text:
                self._send(text, edited)
        elif line.startswith((_REGENERATE, _EDIT)):
            self._repeat(line.startswith(_EDIT))
        elif not line.startswith("/"):
            if line:
                self._send(line, edited)
        elif not self._run_command(line):
            word = line.split()[0]
            begins = (path for path in paths_in(line) if path.startswith(word))
            if any(self._state.found.takes_files or is_file(path) for path in begins):
                self._send(line, edited)
            else:
                print(f"Unknown command '{word}'. Type /? for help")

    def _run_command(self, line: str) -> bool:
        """Run the command ``line``; return whether it is one."""
        before = self._state.messages
        found = self._commands.run(line)
        if self._state.messages is not before:
            # It was cleared, or belongs to another model.
            self._failed = None
        return found

    def _repeat(self, edits: bool) -> None:
        """Answer the last message again, also one that was refused; if ``edits``, after it was edited."""
        last = self._failed or self._last_turn()
        if last is None:
            print("No message yet.")
        elif edits:
            self._edited = last
        else:
            self._exchange(last)

    def _last_turn(self) -> _Turn | None:
        at = self._state.last_question()
        return None if at is None else _Turn(self._state.messages[at], at)

    def _quoted(self, first: str) -> str | None:
        """Return the text that ``first`` begins, with the lines up to the closing quotes if it has quotes.

        None if the user gives it up.
        """
        if not first.startswith(_QUOTES):
            return first
        text = first.removeprefix(_QUOTES)
        try:
            while not text.endswith(_QUOTES):
                text += f"\n{self._editor.read(continued=True)}"
        except (KeyboardInterrupt, EOFError):
            return None
        return text.removesuffix(_QUOTES)

    def _send(self, text: str, edited: _Turn | None) -> None:
        """Send a message, after the conversation or in the place of the turn ``edited``."""
        state = self._state
        message: dict[str, Any] = {"role": "user", "content": text}
        images: list[str] = [] if edited is None else [*(edited.message.get("images") or ())]
        if state.found.takes_files:
            message["content"], added = extract(text, lambda line: print(line, file=sys.stderr))
            images += added
        else:
            for path in filter(is_file, paths_in(text)):
                warning = f"model \"{state.found.name}\" does not take files: '{path}' is sent as text"
                print(f"warning: {warning}", file=sys.stderr)
        message |= {"images": images} if images else {}
        self._exchange(_Turn(message, None if edited is None else edited.at))

    def _exchange(self, turn: _Turn) -> None:
        """Print the answer to the message of ``turn``. Ctrl-C ends it; both are kept."""
        state = self._state
        before, message = state.messages[: turn.at], turn.message
        style = state.style()
        answer = Answer.of(style)
        body = {"model": state.found.name, "messages": [*before, message], **state.settings()}
        try:
            last = _print_answer(self._client, body, answer, style)
        except OllamaError:
            self._failed = turn
            if answer.content:
                # The error stands on a line of its own.
                print()
            raise
        self._failed = None
        state.messages = [*before, message, {"role": "assistant", "content": answer.content}]
        if answer.thinking:
            state.messages[-1]["thinking"] = answer.thinking
        print("\n")
        if last:
            state.usage = Usage.of(last, self._context_length())
        if state.verbose and last:
            print(summary(last), end="", file=sys.stderr)
        self._keep()

    def _keep(self) -> None:
        """Write the conversation to its chat, unless no history is kept. An error is printed once."""
        history = self._editor.history
        if not history.enabled:
            return
        try:
            self._state.chat_id = self._state.chat_id or self._chats.new_id()
            self._chats.save(self._state.chat_id, self._state.to_keep())
        except OllamaError:
            history.enabled = False
            raise

    def _models(self) -> list[str]:
        return [completion.value for completion in model_names("")]

    def _context_length(self) -> int:
        """Return the context length with which the model is loaded, 0 if the server does not report it."""
        try:
            models = (self._client.call("GET", "/api/ps") or {}).get("models") or []
            name = parse_name(self._state.found.name).short
            weights = _weights(self._state.found.shown)
            # Models of the same weights share one load, which is listed by the name that began it.
            models.sort(key=lambda model: model.get("name") != name)
            for model in models:
                listed = model.get("name")
                if listed == name or (weights and weights == _weights(show(self._client, listed))):
                    return int(model.get("context_length", 0))
        except (OllamaError, InvalidName):
            pass
        return 0


def _weights(shown: Mapping[str, Any]) -> list[str]:
    """Return the lines of a model's Modelfile that name the files of its weights."""
    return [line for line in shown.get("modelfile", "").splitlines() if line.startswith("FROM ")]


def _print_answer(client: Client, body: dict[str, Any], answer: Answer, style: Style) -> dict[str, Any]:
    """Print the answer; return its last record, an empty one if Ctrl-C ended it."""
    record: dict[str, Any] = {}
    with Progress() as progress, closing(client.stream("/api/chat", body)) as records:
        progress.spinner("")
        try:
            for record in records:
                message = record.get("message") or {}
                content, thinking = message.get("content", ""), message.get("thinking", "")
                calls = message.get("tool_calls") or ()
                if content or calls or (thinking and not style.hides_thinking):
                    progress.clear()
                answer.add(content, thinking, calls)
        except KeyboardInterrupt:
            return {}
        finally:
            progress.clear()
            answer.end()
    if not record.get("done"):
        raise OllamaError(0, INCOMPLETE)
    return record


def _replay(state: State, messages: Sequence[Mapping[str, Any]]) -> None:
    """Print messages of earlier."""
    style = state.style()
    for message in messages:
        if message["role"] == "user":
            print(f">>> {message['content']}")
        elif message["role"] == "assistant":
            answer = Answer.of(style)
            answer.add(message["content"])
            answer.end()
            print("\n")
