"""What ``make run`` shows: a server, a model put into it over HTTP, a streamed answer.

    python contrib/demo/demo.py FILE.gguf

The question is in PROMPT; the variables of ``ollama serve`` are heeded. Unless OLLAMA_MODELS names
another place, the models lie in ``.cache/models``; the server's key pair lies in ``.cache/home``.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from local_server import Client, Failed, LocalServer

from ollama_tw.config.host import Endpoint
from ollama_tw.config.settings import HOST

MODEL = "smollm2:135m"
CACHE = Path(".cache").resolve()


class Stopped(Exception):
    """The user wants to leave."""


def demo(file: Path, question: str, endpoint: Endpoint) -> int:
    url = endpoint.url
    environ = server_environ()
    try:
        refuse_neighbours(url)
        server = LocalServer(environ, url, CACHE / "server.log")
    except Failed as error:
        return fail(str(error))
    with stopping(server):
        try:
            server.wait_until_ready()
            say(f"The server listens on {url}; its models lie in {environ['OLLAMA_MODELS']}")
            client = Client(url)
            for step in client.install(MODEL, file):
                print(f"    {step}", flush=True)
            say(f"{MODEL} is asked: {question}")
            converse(client, question)
            tell_how(url)
            server.show_log()
            status = server.wait()
            return status if status >= 0 else 128 - status
        except Failed as error:
            server.stop()
            server.wait()
            return fail(str(error))
        except Stopped:
            say("Stopping: what runs is finished first, a second Ctrl-C ends it at once")
            server.show_log()
            server.stop()
            while True:
                try:
                    status = server.wait()
                    break
                except Stopped:
                    server.stop()
            say("The server has stopped" if status == 0 else f"The server ended with status {status}")
            return 0


def server_environ() -> dict[str, str]:
    environ = dict(os.environ)
    models = environ.get("OLLAMA_MODELS")
    environ["OLLAMA_MODELS"] = os.path.expanduser(models) if models else str(CACHE / "models")
    environ["HOME"] = str(CACHE / "home")
    return environ


def refuse_neighbours(url: str) -> None:
    """Raise Failed where something listens already, which is none of our business."""
    try:
        version = Client(url).version()
    except OSError:
        return
    who = "another program" if version is None else f"an Ollama server (version {version})"
    raise Failed(f"{url} is taken by {who}, which is left alone.\n{other_port()}")


def other_port() -> str:
    return "Choose another port: make run OLLAMA_HOST=127.0.0.1:11435"


def converse(client: Client, question: str) -> None:
    """Print the answer as it comes, and how fast it came."""
    messages = [{"role": "user", "content": question}]
    # So small a model is easily led astray by chance, and does not always find an end.
    options = {"temperature": 0, "num_predict": 300}
    print(flush=True)
    for record in client.stream("/api/chat", {"model": MODEL, "messages": messages, "options": options}):
        print(record["message"]["content"], end="", flush=True)
        if record["done"]:
            loaded = record["load_duration"] / 1e9
            seconds = record.get("eval_duration", 0) / 1e9
            speed = f", {record.get('eval_count', 0) / seconds:.0f} tokens a second" if seconds else ""
            print(f"\n\n    (the model was loaded in {loaded:.1f} s{speed})", flush=True)


def tell_how(url: str) -> None:
    say(f"The server goes on at {url}. From another terminal:")
    print(
        f"""
    curl {url}/api/chat -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

    pip install ollama, and in Python:
        from ollama import Client
        client = Client(host="{url}")
        print(client.chat("{MODEL}", [{{"role": "user", "content": "Hello!"}}]).message.content)

    Ctrl-C stops it. Its log, which is also in {CACHE / "server.log"}:
""",
        flush=True,
    )


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def fail(text: str) -> int:
    print(f"\n{text}", file=sys.stderr)
    if "address already in use" in text:
        print(other_port(), file=sys.stderr)
    return 1


@contextmanager
def stopping(server: LocalServer) -> Iterator[None]:
    """Meanwhile a signal raises Stopped; whatever happens, no server is left behind."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        with terminal_of_our_own():
            yield
    finally:
        server.stop()


@contextmanager
def terminal_of_our_own() -> Iterator[None]:
    """Meanwhile the terminal's Ctrl-C reaches us and not ``make``, which would call it an error."""
    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield
        return
    terminal, theirs = sys.stdin.fileno(), os.getpgrp()
    # Nobody would notice that we are stopped by Ctrl-Z, nor wake us.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if theirs != os.getpid():
        os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, theirs)


def main() -> int:
    def warn(text: str) -> None:
        print(text, file=sys.stderr)

    return demo(Path(sys.argv[1]), os.environ.get("PROMPT") or "Who are you?", HOST.read(os.environ, warn))


if __name__ == "__main__":
    sys.exit(main())
