"""The interactive session: reads messages, prints answers, until ``/bye`` or Ctrl-D.

Source: ollama: cmd/interactive.go, generateInteractive; cmd/cmd.go, chat.
"""

import sys
from contextlib import closing
from typing import Any

from ollama_tw.cli.answer import Answer, Style, summary
from ollama_tw.cli.attachments import extract, paths_in
from ollama_tw.cli.client import Client
from ollama_tw.cli.loading import load
from ollama_tw.cli.once import INCOMPLETE
from ollama_tw.cli.progress import Progress
from ollama_tw.cli.session.commands import Commands
from ollama_tw.cli.session.editor import Editor
from ollama_tw.cli.session.state import State
from ollama_tw.errors import OllamaError

_QUOTES = '"""'
_SET_SYSTEM = "/set system "
_LEAVING = ("/bye", "/exit")


def run(client: Client, state: State) -> None:
    """Load the model, then hold the session. Raises OllamaError if the model cannot be loaded."""
    fields = {"keep_alive": state.keep_alive} if state.keep_alive is not None else {}
    load(client, state.found.name, **fields)
    _replay(state)
    Session(client, state, Editor()).run()


class Session:
    """A session with the lines of ``editor``."""

    def __init__(self, client: Client, state: State, editor: Editor) -> None:
        self._client = client
        self._state = state
        self._editor = editor
        self._commands = Commands(client, state, editor.history)

    def run(self) -> None:
        """Handle one line after another. An error of the server is printed, and the session goes on."""
        while True:
            try:
                line = self._editor.read()
            except EOFError:
                print()
                return
            except KeyboardInterrupt as interrupt:
                if interrupt.args == ("",):
                    print("\nUse Ctrl + d or /bye to exit.")
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
        if line.startswith(_SET_SYSTEM):
            text = self._quoted(line.removeprefix(_SET_SYSTEM).strip(" "))
            if text is not None:
                self._state.set_system(text)
                print("Set system message.")
        elif line.startswith(_QUOTES):
            text = self._quoted(line)
            if text:
                self._send(text)
        elif not line.startswith("/"):
            if line:
                self._send(line)
        elif not self._commands.run(line):
            word = line.split()[0]
            if self._state.found.takes_files and any(path.startswith(word) for path in paths_in(line)):
                self._send(line)
            else:
                print(f"Unknown command '{word}'. Type /? for help")

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

    def _send(self, text: str) -> None:
        """Send a message and print the answer, which Ctrl-C ends; both are kept."""
        state = self._state
        message: dict[str, Any] = {"role": "user", "content": text}
        if state.found.takes_files:
            message["content"], images = extract(text, lambda line: print(line, file=sys.stderr))
            message |= {"images": images} if images else {}
        style = Style.of(sys.stdout, wraps=state.wraps, hides_thinking=state.hides_thinking)
        answer = Answer(style)
        body = {"model": state.found.name, "messages": [*state.messages, message], **state.settings()}
        last = _print_answer(self._client, body, answer, style)
        state.messages += [message, {"role": "assistant", "content": answer.content}]
        if answer.thinking:
            state.messages[-1]["thinking"] = answer.thinking
        print("\n")
        if state.verbose and last:
            print(summary(last), end="", file=sys.stderr)


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


def _replay(state: State) -> None:
    """Print the messages that belong to the model."""
    style = Style.of(sys.stdout, wraps=state.wraps, hides_thinking=True)
    for message in state.found.shown.get("messages") or ():
        if message["role"] == "user":
            print(f">>> {message['content']}")
        elif message["role"] == "assistant":
            Answer(style).add(message["content"])
            print("\n")
