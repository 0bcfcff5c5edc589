"""Implementation of ``make run``: start a server, create a model over HTTP, stream a reply, hold a session.

    python contrib/demo/demo.py FILE.gguf

The question is read from PROMPT; the variables of ``ollama serve`` apply. The models directory is
OLLAMA_MODELS, by default ``.cache/models``; the server's key pair is created in ``.cache/home``.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from local_server import Client, Failed, LocalServer

from ollama_tw.config.host import Endpoint
from ollama_tw.config.settings import HOST

MODEL = "smollm2:135m"
CACHE = Path(".cache").resolve()


class Stopped(Exception):
    """A signal requests the end of the demo."""


def demo(file: Path, question: str, endpoint: Endpoint) -> int:
    """Run the demo until a signal; return the exit status."""
    url = endpoint.url
    environ = server_environ()
    try:
        require_free_address(url)
        server = LocalServer(environ, url, CACHE / "server.log")
    except Failed as error:
        return fail(str(error))
    with stopping(server):
        try:
            server.wait_until_ready()
            print_heading(f"The server listens on {url}, models directory: {environ['OLLAMA_MODELS']}")
            client = Client(url)
            for step in client.install(MODEL, file):
                print(f"    {step}", flush=True)
            print_heading(f"Question to {MODEL}: {question}")
            converse(client, question)
            if sys.stdin.isatty() and sys.stdout.isatty():
                print_usage(url, f"/bye ends the session and stops it. Its log: {CACHE / 'server.log'}")
                hold_session(environ, url)
                raise Stopped
            print_usage(url, f"Ctrl-C stops it. Its log, also in {CACHE / 'server.log'}:")
            server.show_log()
            status = server.wait()
            return status if status >= 0 else 128 - status
        except Failed as error:
            server.stop()
            server.wait()
            return fail(str(error))
        except Stopped:
            print_heading("Stopping after the running requests; a second Ctrl-C stops at once")
            server.show_log()
            server.stop()
            while True:
                try:
                    status = server.wait()
                    break
                except Stopped:
                    server.stop()
            print_heading(
                "The server has stopped" if status == 0 else f"The server ended with status {status}"
            )
            return 0


def server_environ() -> dict[str, str]:
    """Return the environment of the server."""
    environ = dict(os.environ)
    models = environ.get("OLLAMA_MODELS")
    environ["OLLAMA_MODELS"] = str(Path(models).expanduser() if models else CACHE / "models")
    environ["HOME"] = str(CACHE / "home")
    return environ


def require_free_address(url: str) -> None:
    """Raise Failed if another program listens at ``url``."""
    try:
        version = Client(url).version()
    except OSError:
        return
    program = "another program" if version is None else f"an Ollama server (version {version})"
    raise Failed(f"{url} is in use by {program}.\n{other_port()}")


def other_port() -> str:
    """Return the advice for an address in use."""
    return "Choose another port: make run OLLAMA_HOST=127.0.0.1:11435"


def converse(client: Client, question: str) -> None:
    """Print the reply as it is streamed, then its speed."""
    messages = [{"role": "user", "content": question}]
    # A model of this size needs greedy sampling, and does not always end its reply.
    options = {"temperature": 0, "num_predict": 300}
    print(flush=True)
    for record in client.stream("/api/chat", {"model": MODEL, "messages": messages, "options": options}):
        print(record["message"]["content"], end="", flush=True)
        if record["done"]:
            loaded = record["load_duration"] / 1e9
            seconds = record.get("eval_duration", 0) / 1e9
            speed = f", {record.get('eval_count', 0) / seconds:.0f} tokens a second" if seconds else ""
            print(f"\n\n    (the model was loaded in {loaded:.1f} s{speed})", flush=True)


def hold_session(environ: Mapping[str, str], url: str) -> None:
    """Run an interactive session with the model until the user leaves it."""
    print_heading(f"A session with {MODEL}; /? lists its commands")
    # Ctrl-C is the session's while it lasts: it stops an answer. A handler, unlike SIG_IGN, is not inherited.
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        subprocess.run(
            [Path(sys.executable).with_name("ollama"), "run", MODEL],
            env={**environ, "OLLAMA_HOST": url},
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, former)


def print_usage(url: str, end: str) -> None:
    """Print examples of requests, and how the server is stopped."""
    print_heading(f"The server keeps running at {url}. In another terminal:")
    print(
        f"""
    curl {url}/api/chat -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

    pip install ollama, and in Python:
        from ollama import Client
        client = Client(host="{url}")
        print(client.chat("{MODEL}", [{{"role": "user", "content": "Hello!"}}]).message.content)

    It reports the version of Ollama that it is compatible with: {Client(url).version()} (see OLLAMA_VERSION).
    {end}
""",
        flush=True,
    )


def print_heading(text: str) -> None:
    """Print a heading."""
    print(f"==> {text}", flush=True)


def fail(text: str) -> int:
    """Print an error, with advice for an address in use; return exit status 1."""
    print(f"\n{text}", file=sys.stderr)
    if "address already in use" in text:
        print(other_port(), file=sys.stderr)
    return 1


@contextmanager
def stopping(server: LocalServer) -> Iterator[None]:
    """Raise Stopped for signals within the block, and stop the server after it."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        with own_foreground_group():
            yield
    finally:
        server.stop()


@contextmanager
def own_foreground_group() -> Iterator[None]:
    """Make this process the terminal's foreground group within the block.

    Ctrl-C then does not interrupt ``make``, which would report an error.
    """
    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield
        return
    terminal, original = sys.stdin.fileno(), os.getpgrp()
    # No shell would continue this group after Ctrl-Z.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if original != os.getpid():
        os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, original)


def main() -> int:
    """Run the demo; return the exit status."""

    def warn(text: str) -> None:
        print(text, file=sys.stderr)

    return demo(Path(sys.argv[1]), os.environ.get("PROMPT") or "Who are you?", HOST.read(os.environ, warn))


if __name__ == "__main__":
    sys.exit(main())
