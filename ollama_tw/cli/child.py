"""Modules of the package that run in a child process, so that llama.cpp cannot end the command."""

import subprocess

from ollama_tw.runner.environment import child_command, child_environment


def run_module(module: str, *arguments: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run ``module`` with the server's variables; return its output and its exit status.

    Raises subprocess.TimeoutExpired after ``timeout`` seconds.
    """
    return subprocess.run(  # noqa: S603 - the interpreter that runs this
        child_command(module, *arguments),
        env=child_environment(["OLLAMA_*"]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def last_line(text: str) -> str:
    """Return the last line of ``text``, which of a traceback is the error."""
    return text.strip().rpartition("\n")[2]
