"""Servers behind one: `python benchmarks/peers.py --help`.

Chats talk to one server, to a front with that server behind it, and to a front with all of them. Then a
server is killed while chats go on, and started again; and once more, with a drain in place of the kill. See
README.md.
"""

import argparse
import http.client
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import PATIENCE, ROOT, Started, Unusable, call, install, serving

MODEL = "m"
CONTEXT = 2048
_POLL = 0.1
_HEADINGS = ("servers", "replies", "complete", "broke off", "lost", "tokens/s", "cache hits", "stayed")


@dataclass
class Tally:
    """Results of the turns of all chats."""

    complete: int = 0
    broken: int = 0
    """Replies that had begun and ended with an error."""
    lost: int = 0
    """Requests that had no output at all."""
    output: int = 0
    prompt: int = 0
    cached: int = 0
    later: int = 0
    """Turns of chats that had a complete turn before, in the same part."""
    stayed: int = 0
    """Those of them of which the whole prompt before was in the cache."""
    errors: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def turns(self) -> int:
        return self.complete + self.broken + self.lost


class Chat:
    """A conversation whose prompt has a beginning of its own."""

    def __init__(self, number: int) -> None:
        system = " ".join(f"Chat {number} has rule {rule}: answer briefly." for rule in range(12))
        self.messages = [{"role": "system", "content": system}]
        self.known = 0
        """Tokens of the prompt of the last turn, if that was complete."""


class Talk:
    """A part of the measurement: some turns of each chat, at the same time.

    ``event`` is called once, when so many of them as there are lanes have begun their middle reply.
    """

    def __init__(self, url: str, chats: Sequence[Chat], lanes: int, *, turns: int, tokens: int) -> None:
        self._address = urlsplit(url).netloc
        self._chats = chats
        self._lanes = lanes
        self._turns = turns
        self._tokens = tokens
        self._tally = Tally()
        self._changed = threading.Condition()
        self._in_the_middle = 0

    def run(self, event: Callable[[], None] | None = None) -> Tally:
        begun = time.monotonic()
        with ThreadPoolExecutor(len(self._chats)) as pool:
            ended = [pool.submit(self._talk, chat) for chat in self._chats]
            if event is not None:
                with self._changed:
                    self._changed.wait_for(lambda: self._in_the_middle >= self._lanes)
                event()
            for one in ended:
                one.result()
        self._tally.seconds = time.monotonic() - begun
        return self._tally

    def _talk(self, chat: Chat) -> None:
        for turn in range(self._turns):
            question = {"role": "user", "content": f"Question {turn}: what comes next, and why?"}
            text, last, error = self._ask([*chat.messages, question], middle=turn == self._turns // 2)
            if not error:
                chat.messages += [question, {"role": "assistant", "content": text}]
            with self._changed:
                self._count(chat, bool(text), last, error)

    def _count(self, chat: Chat, begun: bool, last: Mapping[str, Any], error: str) -> None:
        tally = self._tally
        if error:
            tally.errors.add(error)
            tally.broken += begun
            tally.lost += not begun
            chat.known = 0
            return
        prompt, cached = last["prompt_eval_count"], last.get("prompt_cached_count", 0)
        tally.complete += 1
        tally.output += last["eval_count"]
        tally.prompt += prompt
        tally.cached += cached
        if chat.known:
            tally.later += 1
            tally.stayed += cached >= chat.known
        chat.known = prompt

    def _ask(
        self, messages: Sequence[Mapping[str, str]], *, middle: bool
    ) -> tuple[str, Mapping[str, Any], str]:
        """Return the text of a reply, its last record, and an error or ""."""
        options = {"temperature": 0, "num_predict": self._tokens, "num_ctx": CONTEXT}
        body = {"model": MODEL, "messages": messages, "options": options}
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        text = ""
        try:
            connection.request("POST", "/api/chat", json.dumps(body))
            for line in connection.getresponse():
                record = json.loads(line)
                if "error" in record:
                    return text, {}, record["error"]
                if middle and not text:
                    with self._changed:
                        self._in_the_middle += 1
                        self._changed.notify_all()
                text += record["message"]["content"]
                if record["done"]:
                    return text, record, ""
        except (OSError, http.client.HTTPException) as error:
            return text, {}, str(error) or type(error).__name__
        finally:
            connection.close()
        return text, {}, "the stream ended without its last record"


class Peers:
    """The servers behind the front, each with the model in its library."""

    def __init__(
        self, stack: ExitStack, variables: Mapping[str, str], count: int, model: Path | None
    ) -> None:
        self._stack = stack
        self._variables = variables
        self._homes = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(count)]
        self.started = [self._start(home) for home in self._homes]
        for home, server in zip(self._homes, self.started, strict=True):
            install(server.url, MODEL, model or _tiny_model(home))
            load(server)

    def _start(self, home: Path, **variables: str) -> Started:
        return self._stack.enter_context(serving(home, {**self._variables, **variables}))

    def end(self, index: int, *, drain: bool) -> None:
        """Let a server drain, or kill it."""
        process = psutil.Process(self.started[index].pid)
        process.terminate() if drain else process.kill()

    def restart(self, index: int) -> None:
        """Start a server that has ended, at its former address, and load the model."""
        address = urlsplit(self.started[index].url).netloc
        self.started[index] = self._start(self._homes[index], OLLAMA_HOST=address)
        load(self.started[index])


def load(server: Started) -> None:
    """Load the model for as long as the server runs."""
    options = {"num_ctx": CONTEXT}
    call(server.url, "POST", "/api/generate", {"model": MODEL, "keep_alive": -1, "options": options})


@contextmanager
def front(servers: Sequence[Started]) -> Iterator[Started]:
    """Run a server in front of ``servers``."""
    with tempfile.TemporaryDirectory() as home:
        package = ROOT / "contrib" / "ollama-tw-upstream"
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, package))),
            "OLLAMA_TW_UPSTREAM": " ".join(one.url for one in servers),
        }
        with serving(Path(home), variables) as started:
            load(started)
            yield started


def await_state(url: str, peer: str, ready: bool) -> None:
    """Wait until the front counts ``peer`` as ready or not. Raises Unusable if that does not happen."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        (entry,) = json.loads(call(url, "GET", "/api/ps"))["models"]
        (state,) = [one["state"] for one in entry["replicas"] if one["name"] == peer]
        if (state == "ready") == ready:
            return
        time.sleep(_POLL)
    raise Unusable(f"{peer} is still {state}")


def row(name: str, tally: Tally) -> str:
    """Return the figures as a row of a Markdown table."""
    stayed = f"{tally.stayed} of {tally.later}" if tally.later else ""
    cells = (
        *(name, tally.turns, tally.complete, tally.broken, tally.lost),
        *(f"{tally.output / tally.seconds:.0f}", f"{tally.cached / max(tally.prompt, 1):.0%}", stayed),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return 1 if a request was lost."""
    parser = argparse.ArgumentParser(description="Measure servers behind one, also while they come and go.")
    parser.add_argument("--model", type=Path, help="GGUF file (default: a backend that takes 20 ms a token)")
    parser.add_argument("--peers", type=int, default=3, help="servers behind the front (default: 3)")
    parser.add_argument("--lanes", type=int, default=4, help="slots of each server (default: 4)")
    parser.add_argument("--turns", type=int, default=6, help="turns of each chat in each part (default: 6)")
    parser.add_argument("--tokens", type=int, default=64, help="length of each reply (default: 64)")
    given = parser.parse_args(argv)
    variables = {"OLLAMA_NUM_PARALLEL": str(given.lanes), "OLLAMA_LLM_LIBRARY": "cpu"}
    if given.model is None:
        variables["OLLAMA_LLM_LIBRARY"] = "timed"
        variables["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks" / "fake")))
    numbers = itertools.count()
    failed = False

    def part(name: str, url: str, servers: int, event: Callable[[], None] | None = None) -> None:
        nonlocal failed
        lanes = given.lanes * servers
        # With an event there are some more, which wait for a lane.
        chats = [Chat(next(numbers)) for _ in range(lanes + (given.lanes if event else 0))]
        tally = Talk(url, chats, lanes, turns=given.turns, tokens=given.tokens).run(event)
        failed = failed or bool(tally.lost)
        print(row(name, tally), flush=True)
        for error in sorted(tally.errors):
            print(f"  {error}", file=sys.stderr)

    with ExitStack() as stack:
        peers = Peers(stack, variables, given.peers, given.model)
        print(f"| {' | '.join(_HEADINGS)} |\n| --- |{' ---: |' * (len(_HEADINGS) - 1)}", flush=True)
        part("1, without a front", peers.started[0].url, 1)
        with front(peers.started[:1]) as alone:
            part("1", alone.url, 1)
        with front(peers.started) as started:
            count, last = given.peers, given.peers - 1
            part(f"{count}", started.url, count)
            for name, drain in (("is killed", False), ("drains", True)):
                part(f"{count}, one {name}", started.url, count, partial(peers.end, last, drain=drain))
                await_state(started.url, peers.started[last].url, ready=False)
                part(f"{last}", started.url, last)
                peers.restart(last)
                await_state(started.url, peers.started[last].url, ready=True)
                part(f"{count}, after its return", started.url, count)
    return int(failed)


def _tiny_model(home: Path) -> Path:
    from tests.helpers.gguf_files import write_gguf
    from tests.helpers.models import CHATML

    return write_gguf(home / "tiny.gguf", chat_template=CHATML)


if __name__ == "__main__":
    sys.exit(main())
