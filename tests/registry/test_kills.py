"""A server that is killed repeatedly at random moments of pulls and creations.

``OLLAMA_TW_KILLS`` is the number of kills (10), ``OLLAMA_TW_SEED`` the seed of their times (1).
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

pytestmark = pytest.mark.timeout(60 + 6 * KILLS)

PART = 4 << 20
PARTS = 6
# Bytes per connection in the buffers of sockets and of the server, which a kill loses.
LOST = 1 << 20
_PIECE = 1 << 15
_PAUSE = 0.006


class SlowRegistry:
    """Serves one model at about 5 MB/s per connection; ``sent`` counts the bytes of its blobs."""

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


class KilledServer:
    """A server that is restarted after each kill; its store is checked each time."""

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
        """Kill the server at a random moment of ``work``, which takes about ``seconds``."""
        busy = threading.Thread(target=self._run_until_killed, args=(work,))
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
        self.check_store()
        self.server = self._start()

    def _run_until_killed(self, work: Callable[[Server], None]) -> None:
        try:
            work(self.server)
        except Exception as error:
            # Errors of requests to a server that is being killed are expected.
            if not self._dying:
                self._faults.append(error)

    def check_store(self) -> None:
        """Assert that each blob matches its digest, and that all blobs of each manifest exist."""
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
        """Assert that the start logged no errors; return the listed models, which must be complete."""
        assert not re.search("level=(WARN|ERROR)|Traceback", self.server.log), self.server.log
        names = [model["name"] for model in self.server.get("/api/tags").json["models"]]
        for name in names:
            assert self.server.post("/api/show", {"model": name}).status == 200
        return names

    def discard(self) -> None:
        self.server.discard()


@pytest.fixture
def killed_server(tmp_path: Path) -> Iterator[KilledServer]:
    killed_server = KilledServer(tmp_path / "home")
    yield killed_server
    killed_server.discard()


def test_killed_in_a_pull(tmp_path: Path, killed_server: KilledServer) -> None:
    head = write_gguf(tmp_path / "m.gguf").read_bytes()
    weights = head + random.Random(SEED).randbytes(PART * PARTS - len(head))
    registry = SlowRegistry(weights)
    name = f"{registry.host}/library/m:latest"
    digest = sha256(weights)
    partial = killed_server.models / "blobs" / (digest.replace(":", "-") + "-partial")

    def begin() -> None:
        """Write the state of a download in small parts that another program has begun."""
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
        pull(killed_server.server)
        duration = time.monotonic() - start
        assert killed_server.check_start() == [name]
        finished, again, moments = 1, 0, []
        killed_server.server.request("DELETE", "/api/delete", {"model": name})
        begin()
        registry.sent = since = 0
        while killed_server.kills < KILLS:
            killed_server.kill_within(duration * 0.35, pull)
            since += 1
            moments.append(min(registry.sent / len(weights), 1.0))
            listed = killed_server.check_start()
            assert listed in ([], [name])
            if listed:
                # Only bytes that were lost in buffers are downloaded again, at each kill.
                extra = registry.sent - sum(map(len, registry.blobs.values()))
                assert extra <= since * LOST * PARTS
                again, finished = again + extra, finished + 1
                killed_server.server.request("DELETE", "/api/delete", {"model": name})
                begin()
                registry.sent = since = 0
        pull(killed_server.server)
        assert killed_server.check_start() == [name]
        killed_server.check_store()
        assert sorted(path.name for path in partial.parent.iterdir()) == sorted(
            digest.replace(":", "-") for digest in registry.blobs
        )
        assert killed_server.server.generate("Hi", model=name).json["response"] == "Hello"
        quarters = [sum(low <= moment < low + 0.25 for moment in moments) for low in (0, 0.25, 0.5, 0.75)]
        print(
            f"\n{killed_server.kills} kills: {quarters} in the quarters of the download, "
            f"{moments.count(1.0)} after its last byte; {finished} pulls completed; "
            f"fetched twice: {again / killed_server.kills / 1e6:.2f} MB a kill"
        )
    finally:
        registry.stop()


def test_killed_in_a_create(tmp_path: Path, killed_server: KilledServer) -> None:
    """Uploads, models from files and from models, replaced models, deletes."""
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
    while killed_server.kills < KILLS:
        killed_server.kill_within(0.5, create)
        assert set(killed_server.check_start()) <= known
    body = {"model": "child", "from": "base", "system": "The last.", "stream": False}
    if "base:latest" not in killed_server.check_start():
        body = {"model": "child", "files": {"m.gguf": sha256(head)}, "system": "The last.", "stream": False}
        killed_server.server.post(f"/api/blobs/{sha256(head)}", head)
    assert killed_server.server.post("/api/create", body).json == {"status": "success"}
    assert killed_server.server.post("/api/show", {"model": "child"}).json["system"] == "The last."
    assert killed_server.server.generate("Hi", model="child").json["response"] == "Hello"
    killed_server.check_store()
    print(f"\n{killed_server.kills} kills, {made} rounds of creations")
