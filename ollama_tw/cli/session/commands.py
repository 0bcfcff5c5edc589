"""Commands of the interactive session, the lines that begin with a slash.

Source: ollama: cmd/interactive.go, generateInteractive.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.cli.description import description
from ollama_tw.cli.listings import model_table
from ollama_tw.cli.loading import load_if_allowed
from ollama_tw.cli.lookup import Found, show
from ollama_tw.cli.session import texts
from ollama_tw.cli.session.conversation import ConversationCommands
from ollama_tw.cli.session.history import LineHistory
from ollama_tw.cli.session.state import State
from ollama_tw.errors import OllamaError
from ollama_tw.golang.fmt import format_value
from ollama_tw.golang.quoting import quote
from ollama_tw.library.modelfile.parameters import KINDS, parse_parameter
from ollama_tw.library.modelfile.parser import ModelfileError
from ollama_tw.wire.options import Kind

_INVALID_NAME = "invalid model name"
_COLUMNS = 30


class Commands:
    """Runs commands on ``state``."""

    def __init__(self, client: Client, state: State, history: LineHistory) -> None:
        self._client = client
        self._state = state
        self._history = history
        self._conversation = ConversationCommands(state)

    def run(self, line: str) -> bool:
        """Run the command ``line``; return whether it is one.

        A command is recognised by the beginning of the line, so that ``/listing`` lists. ``/bye``,
        ``/set system``, ``/regenerate`` and ``/edit`` are the caller's. Raises OllamaError.
        """
        words = line.split()
        for name, command in (*self._table(), *self._conversation.table()):
            if line.startswith(name):
                command(words[1:])
                return True
        return False

    def _table(self) -> Sequence[tuple[str, Callable[[Sequence[str]], None]]]:
        return (
            ("/list", self._list),
            ("/load", self._load),
            ("/save", self._save),
            ("/clear", self._clear),
            ("/set", self._set),
            ("/show", self._show),
            ("/help", self._help),
            ("/?", self._help),
        )

    def _list(self, words: Sequence[str]) -> None:
        models = (self._client.call("GET", "/api/tags") or {}).get("models") or []
        begin = words[0].lower() if words else ""
        print(
            model_table(model for model in models if model.get("name", "").lower().startswith(begin)), end=""
        )

    def _load(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            print("Usage:\n  /load <modelname>")
            return
        name = words[0]
        print(f"Loading model '{name}'")
        try:
            found = Found(name, show(self._client, name))
            load_if_allowed(self._client, name, **self._keep_alive())
        except OllamaError as error:
            if "not found" not in error.message:
                raise
            print(f"Couldn't find model '{name}'")
            return
        self._state.change_model(found)

    def _keep_alive(self) -> dict[str, Any]:
        return {} if self._state.keep_alive is None else {"keep_alive": self._state.keep_alive}

    def _save(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            print("Usage:\n  /save <modelname>")
            return
        try:
            for _ in self._client.stream("/api/create", self._state.creation(words[0])):
                pass
        except OllamaError as error:
            if _INVALID_NAME not in error.message:
                raise
            print(f"error: The model name '{words[0]}' is invalid")
            return
        print(f"Created new model '{words[0]}'")

    def _clear(self, words: Sequence[str]) -> None:
        self._state.clear()
        print("Cleared session context")

    def _help(self, words: Sequence[str]) -> None:
        topic = words[0].lstrip("/") if words else ""
        pages = {
            "set": texts.SET,
            "show": texts.SHOW,
            "shortcut": texts.SHORTCUTS,
            "shortcuts": texts.SHORTCUTS,
            "": texts.HELP + (texts.FILES if self._state.found.takes_files else "") + "\n",
        }
        print(pages.get(topic, ""), end="", file=sys.stderr)

    def _set(self, words: Sequence[str]) -> None:
        state = self._state
        match words:
            case ["history"]:
                self._history.enabled = True
            case ["nohistory"]:
                self._history.enabled = False
            case ["wordwrap" | "nowordwrap" as name, *_]:
                state.wraps = name == "wordwrap"
                print(f"Set '{name}' mode.")
            case ["markdown" | "plain" as name, *_]:
                state.renders = name == "markdown"
                print(f"Set '{name}' mode.")
            case ["fold" | "nofold" as name, *_]:
                state.folds = name == "fold"
                print(f"Set '{name}' mode.")
            case ["verbose" | "quiet" as name, *_]:
                state.verbose = name == "verbose"
                print(f"Set '{name}' mode.")
            case ["think" | "nothink" as name, *rest]:
                self._set_think(name, rest)
            case ["format", "json", *_]:
                state.format = "json"
                print("Set format to 'json' mode.")
            case ["format", *_]:
                print("Invalid or missing format. For 'json' mode use '/set format json'")
            case ["noformat", *_]:
                state.format = None
                print("Disabled format.")
            case ["parameter", key, first, *rest]:
                self._set_parameter(key, [first, *rest])
            case ["parameter", *_]:
                print(texts.PARAMETERS, end="", file=sys.stderr)
            case [] | ["system"]:
                print(texts.SET, end="", file=sys.stderr)
            case [name, *_]:
                print(f"Unknown command '/set {name}'. Type /? for help")

    def _set_think(self, name: str, rest: Sequence[str]) -> None:
        level = rest[0] if rest and name == "think" else ""
        self._state.think = level or name == "think"
        self._state.think_is_set = True
        if name == "think" and not self._state.found.can("thinking"):
            model = self._state.found.name
            print(f'warning: model "{model}" does not support thinking output', file=sys.stderr)
        print(f"Set 'think' mode to '{level}'." if level else f"Set '{name}' mode.")

    def _set_parameter(self, key: str, values: Sequence[str]) -> None:
        try:
            if KINDS.get(key) is Kind.STRINGS:
                value: Any = list(values)
            else:
                value = parse_parameter(key, values[0])
        except ModelfileError as error:
            print(f"Couldn't set parameter: {quote(str(error))}")
            return
        self._state.options[key] = value
        print(f"Set parameter '{key}' to '{', '.join(values)}'")

    def _show(self, words: Sequence[str]) -> None:
        if not words:
            print(texts.SHOW, end="", file=sys.stderr)
            return
        state = self._state
        request = {"model": state.found.name, "system": state.system, "options": state.options}
        shown: dict[str, Any] = self._client.call("POST", "/api/show", request) or {}
        match words[0]:
            case "info":
                print(description(shown), end="", file=sys.stderr)
            case "license":
                print(shown.get("license") or "No license was specified for this model.")
            case "modelfile":
                print(shown.get("modelfile", ""))
            case "parameters":
                self._show_parameters(shown.get("parameters") or "")
            case "system":
                text = state.system or shown.get("system")
                print(f"{text}\n" if text else "No system message was specified for this model.")
            case "template":
                print(shown.get("template") or "No prompt template was specified for this model.")
            case name:
                print(f"Unknown command '/show {name}'. Type /? for help")

    def _show_parameters(self, own: str) -> None:
        print("Model defined parameters:")
        for line in own.split("\n") if own else ["No additional parameters were specified for this model."]:
            print(f"  {line}")
        print()
        if self._state.options:
            print("User defined parameters:")
            for key, value in self._state.options.items():
                print(f"  {key:<{_COLUMNS}} {format_value(value)}")
            print()
