"""Typing into an interactive session on a pseudo-terminal."""

import re

from tests.helpers.terminal import Terminal

EMPTY_PROMPT = ">>> Send a message (/? for help)"
CTRL_C, CTRL_D, CTRL_J = "\x03", "\x04", "\n"
_STATUS = re.compile(r"\n+[\w:.-]+(?:  \d[^\n]*)?\Z")


def is_at_prompt(shown: str) -> bool:
    """Return whether the last line, but for the status line, is an empty prompt."""
    return _STATUS.sub("", shown.rstrip()).rstrip().endswith(EMPTY_PROMPT)


def at_prompt(terminal: Terminal) -> None:
    """Wait for an empty prompt."""
    terminal.wait_until(is_at_prompt, "an empty prompt")


def say(terminal: Terminal, line: str, expected: str) -> None:
    """Type a line at the prompt, and wait for an expected text below it and the next prompt."""
    typed = f">>> {line}"
    count = "\n".join(terminal.lines).count(typed)
    terminal.type(line)
    terminal.wait_for(typed, count + 1)
    terminal.type("\r")
    terminal.wait_until(
        lambda shown: expected in shown.rpartition(typed)[2] and is_at_prompt(shown), expected
    )


def ask(terminal: Terminal, line: str) -> None:
    """Send a line, and wait until its answer has begun, for which there is no status line."""
    terminal.type(f"{line}\r")

    def has_begun(shown: str) -> bool:
        _, found, below = shown.rpartition(f">>> {line}")
        return bool(found) and len(below.strip()) > 9 and not _STATUS.search(below.rstrip())

    terminal.wait_until(has_begun, f"an answer to {line}")


def answered(terminal: Terminal, text: str) -> None:
    """Wait for the line ``text`` and the next prompt."""
    terminal.wait_until(lambda shown: f"\n{text}\n" in shown and is_at_prompt(shown), text)
