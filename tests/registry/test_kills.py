"""A server that is killed, again and again, at whatever moment of a pull or of a create.

``OLLAMA_TW_KILLS`` says how often (10), ``OLLAMA_TW_SEED`` at which moments (1).
"""

import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gguf_files import write_gguf
from tests.helpers.server import PLUGINS, Server
from tests.registry.fakes import CONFIG, OLLAMA, layer, manifest_of, sha256
from tests.registry.gateway import QuietServer

KILLS = int(os.environ.get("OLLAMA_TW_KILLS", "10"))
SEED = int(os.environ.get("OLLAMA_TW_SEED", "1"))

PART = 4 << 20
PARTS = 6
# What a connection has in the pockets of two systems and a server, and is lost with the server.
LOST = 1 << 20
_PIECE = 1 << 15
_PAUSE = 0.006


class SlowRegistry:
    """Gives out one model, each connection at about 5 MB/s; ``sent`` counts the bytes of its blobs."""

    def __init__(self, weights: bytes) -> None:
        config = b'{"model_format":"gguf"}'
        self.blobs = {sha256(data): data for data in (weights, b"MIT", config)}
        layers = [layer(OLLAMA + "model", weights), layer(OLLAMA + "license", b"MIT")]
        manifest = manifest_of(*layers, config=layer(CONFIG, config))
        self.sent = 0
        registry = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                data = registry.blobs.get(self.path.rpartition("/")[2], manifest)
                total = len(data)
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if found:
                    first, last = int(found[1]), int(found[2])
                    data = data[first : last + 1]
                self.send_response(206 if found else 200)
                if found:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    for start in range(0, len(data), _PIECE):
                        piece = data[start : start + _PIECE]
                        self.wfile.write(piece)
                        if total != len(manifest):
                            with lock:
                                registry.sent += len(piece)
                        if total > _PIECE:
                            time.sleep(_PAUSE)
                except OSError:
                    self.close_connection = True

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Killed:
    """A server that is started anew after each kill; its store is looked through each time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = home / ".ollama/models"
        self._random = random.Random(SEED)
        self._dying = False
        self._faults: list[Exception] = []
        self.kills = 0
        self.server = self._start()

    def _start(self) -> Server:
        return Server(self.home, plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="scripted").ready()

    def kill_within(self, seconds: float, work: Callable[[Server], None]) -> None:
        """Kill the server at a random moment of ``work``, which runs for about ``seconds``."""
        busy = threading.Thread(target=self._endure, args=(work,))
        moment = self._random.uniform(0, seconds)
        self._dying = False
        busy.start()
        time.sleep(moment)
        self._dying = True
        self.server.process.kill()
        self.server.discard()
        busy.join()
        assert self._faults == []
        self.kills += 1
        self.look_through()
        self.server = self._start()

    def _endure(self, work: Callable[[Server], None]) -> None:
        try:
            work(self.server)
        except Exception as error:
            # Whatever comes of a server that is being killed is no fault of its.
            if not self._dying:
                self._faults.append(error)

    def look_through(self) -> None:
        """Every blob is what its name says, and every manifest has all its blobs."""
        blobs = self.models / "blobs"
        whole = set()
        for path in blobs.iterdir():
            if re.fullmatch("sha256-[0-9a-f]{64}", path.name):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name[7:]
                whole.add(path.name.replace("-", ":"))
        for path in (self.models / "manifests").rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                manifest = json.loads(path.read_bytes())
                for found in (manifest["config"], *manifest["layers"]):
                    assert found["digest"] in whole

    def check_start(self) -> list[str]:
        """The start said nothing bad; returns the models that are listed, each of which is whole."""
        assert not re.search("level=(WARN|ERROR)|Traceback", self.server.log), self.server.log
        names = [model["name"] for model in self.server.get("/api/tags").json["models"]]
        for name in names:
            assert self.server.post("/api/show", {"model": name}).status == 200
        return names

    def discard(self) -> None:
        self.server.discard()


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    killed = Killed(tmp_path / "home")
    yield killed
    killed.discard()


def test_killed_in_a_pull(tmp_path: Path, killed: Killed) -> None:
    head = write_gguf(tmp_path / "m.gguf").read_bytes()
    weights = head + random.Random(SEED).randbytes(PART * PARTS - len(head))
    registry = SlowRegistry(weights)
    name = f"{registry.host}/library/m:latest"
    digest = sha256(weights)
    partial = killed.models / "blobs" / (digest.replace(":", "-") + "-partial")

    def begin() -> None:
        """What another program would have left of a download in small parts that it had just begun."""
        with partial.open("wb") as file:
            file.truncate(PART * PARTS)
        for number in range(PARTS):
            state = {"N": number, "Offset": number * PART, "Size": PART, "Completed": 0}
            partial.with_name(f"{partial.name}-{number}").write_text(json.dumps(state) + "\n")

    def pull(server: Server) -> None:
        server.post("/api/pull", {"model": name, "insecure": True, "stream": False})

    try:
        begin()
        start = time.monotonic()
        pull(killed.server)
        duration = time.monotonic() - start
        assert killed.check_start() == [name]
        finished, again, moments = 1, 0, []
        killed.server.request("DELETE", "/api/delete", {"model": name})
        begin()
        registry.sent = since = 0
        while killed.kills < KILLS:
            killed.kill_within(duration * 0.35, pull)
            since += 1
            moments.append(min(registry.sent / len(weights), 1.0))
            listed = killed.check_start()
            assert listed in ([], [name])
            if listed:
                # What was fetched twice is what was lost on the way, at each kill.
                extra = registry.sent - sum(map(len, registry.blobs.values()))
                assert extra <= since * LOST * PARTS
                again, finished = again + extra, finished + 1
                killed.server.request("DELETE", "/api/delete", {"model": name})
                begin()
                registry.sent = since = 0
        pull(killed.server)
        assert killed.check_start() == [name]
        killed.look_through()
        assert sorted(path.name for path in partial.parent.iterdir()) == sorted(
            digest.replace(":", "-") for digest in registry.blobs
        )
        assert killed.server.generate("Hi", model=name).json["response"] == "Hello"
        quarters = [sum(low <= moment < low + 0.25 for moment in moments) for low in (0, 0.25, 0.5, 0.75)]
        print(
            f"\n{killed.kills} kills: {quarters} in the quarters of the download, {moments.count(1.0)} after "
            f"its last byte; {finished} pulls came to their end; "
            f"fetched twice: {again / killed.kills / 1e6:.2f} MB a kill"
        )
    finally:
        registry.stop()


def test_killed_in_a_create(tmp_path: Path, killed: Killed) -> None:
    """Uploads, models of files, models of models, models that replace others, deletes."""
    head = write_gguf(tmp_path / "m.gguf").read_bytes()
    made = 0

    def create(server: Server) -> None:
        nonlocal made
        while True:
            made += 1
            data = head + made.to_bytes(4, "big") * (1 << 18)
            digest = sha256(data)
            assert server.post(f"/api/blobs/{digest}", data).status == 201
            for body in (
                {"model": "base", "files": {"m.gguf": digest}, "license": f"number {made}"},
                {
                    "model": "child",
                    "from": "base",
                    "system": f"You are {made}.",
                    "parameters": {"seed": made},
                },
                {"model": f"other{made % 3}", "from": "child", "template": "{{ .Prompt }}", "license": "MIT"},
            ):
                assert server.post("/api/create", {**body, "stream": False}).json == {"status": "success"}
            server.request("DELETE", "/api/delete", {"model": f"other{(made + 1) % 3}"})

    known = {f"{name}:latest" for name in ("base", "child", "other0", "other1", "other2")}
    while killed.kills < KILLS:
        killed.kill_within(0.5, create)
        assert set(killed.check_start()) <= known
    body = {"model": "child", "from": "base", "system": "The last.", "stream": False}
    if "base:latest" not in killed.check_start():
        body = {"model": "child", "files": {"m.gguf": sha256(head)}, "system": "The last.", "stream": False}
        killed.server.post(f"/api/blobs/{sha256(head)}", head)
    assert killed.server.post("/api/create", body).json == {"status": "success"}
    assert killed.server.post("/api/show", {"model": "child"}).json["system"] == "The last."
    assert killed.server.generate("Hi", model="child").json["response"] == "Hello"
    killed.look_through()
    print(f"\n{killed.kills} kills, {made} rounds of creating")
