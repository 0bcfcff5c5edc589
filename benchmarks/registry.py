"""Pull and push against curl with the same bytes: `python benchmarks/registry.py --help`."""

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.soak_server import PATIENCE, Started, Unusable, call, serving

MEBIBYTE = 1 << 20
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OURS = "ollama_tw"
# What curl does, and what it does with the two things that a pull does besides: to check and to keep.
CURL = "curl"
CAREFUL = "curl, openssl, sync"
_CONFIG = b'{"model_format":"gguf"}'


def flush_disks() -> None:
    """Write all cached file data to the disks, so that no tool is measured with the data of another."""
    if sys.platform != "win32":
        os.sync()


@dataclass
class Figures:
    """Seconds of every repeat, by operation and tool; bytes of resident memory of the server."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    at_rest: int = 0
    largest: dict[str, int] = field(default_factory=dict)

    def add(self, operation: str, tool: str, seconds: float) -> None:
        self.seconds.setdefault(operation, {}).setdefault(tool, []).append(seconds)


class Watched:
    """Runs work while it looks at the resident memory of a process."""

    def __init__(self, pid: int, figures: Figures) -> None:
        self._process = psutil.Process(pid)
        self._figures = figures

    def resident(self) -> int:
        """Bytes of memory that the process has now; cheap, for it runs beside what is measured."""
        return int(self._process.memory_info().rss)

    def run(self, operation: str, work: Callable[[], object]) -> float:
        """The seconds that ``work`` took; the largest memory is noted under ``operation``."""
        over = threading.Event()
        largest = [self.resident()]

        def look() -> None:
            while not over.wait(0.05):
                largest.append(self.resident())

        looker = threading.Thread(target=look)
        looker.start()
        start = time.perf_counter()
        try:
            work()
            seconds = time.perf_counter() - start
        finally:
            over.set()
            looker.join()
        known = self._figures.largest.get(operation, 0)
        self._figures.largest[operation] = max(known, *largest)
        return seconds


@contextmanager
def registry(directory: Path, program: str) -> Iterator[str]:
    """A registry with an empty store; yields its URL. Raises Unusable where it does not come up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    configuration = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }
    file = directory / "registry.yml"
    file.write_text(json.dumps(configuration))
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen((program, "serve", str(file)), stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                call(f"http://{address}", "GET", "/v2/")
                break
            except Unusable:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def curl(*arguments: str) -> str:
    """What curl prints. Raises Unusable unless the reply is 2xx."""
    done = subprocess.run(
        ("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", *arguments),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Unusable(f"curl: {done.stderr.strip()}")
    return done.stdout


def curl_push(url: str, repository: str, file: Path, digest: str) -> None:
    """One upload in a single piece, and its end."""
    started = curl("-D", "-", "-X", "POST", f"{url}/v2/{repository}/blobs/uploads/")
    binary = ("-H", "Content-Type: application/octet-stream")
    sent = curl("-D", "-", "-X", "PATCH", *binary, "-T", str(file), _location(started))
    curl("-X", "PUT", "-H", "Content-Length: 0", f"{_location(sent)}&digest={digest}")


def _location(headers: str) -> str:
    found = re.search(r"^location: (\S+)", headers, re.IGNORECASE | re.MULTILINE)
    if not found:
        raise Unusable("the registry does not say where to upload to")
    return found[1]


def publish(url: str, repository: str, weights: Path, digest: str) -> None:
    """Make a model of the file at the registry."""
    curl_push(url, repository, weights, digest)
    config = weights.with_suffix(".config")
    config.write_bytes(_CONFIG)
    config_digest = f"sha256:{hashlib.sha256(_CONFIG).hexdigest()}"
    curl_push(url, repository, config, config_digest)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": config_digest,
            "size": len(_CONFIG),
        },
        "layers": [
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": digest,
                "size": weights.stat().st_size,
            }
        ],
    }
    data = json.dumps(manifest)
    curl(
        "-X", "PUT", "-H", f"Content-Type: {MANIFEST}", "-d", data, f"{url}/v2/{repository}/manifests/latest"
    )


def _ask(server: Started, path: str, model: str) -> None:
    reply = call(server.url, "POST", path, {"model": model, "insecure": True, "stream": False})
    if json.loads(reply) != {"status": "success"}:
        raise Unusable(f"{path}: {reply.decode()}")


def measure(directory: Path, program: str, size: int, repeats: int) -> Figures:
    """Time everything, turn about, in ``directory``; ``size`` in bytes. Raises Unusable, OSError."""
    figures = Figures()
    weights = directory / "weights"
    state = hashlib.sha256()
    with weights.open("wb") as file:
        for offset in range(0, size, MEBIBYTE):
            piece = os.urandom(min(MEBIBYTE, size - offset))
            state.update(piece)
            file.write(piece)
    digest = f"sha256:{state.hexdigest()}"
    home = directory / "home"
    home.mkdir()
    with registry(directory, program) as url, serving(home, {}) as server:
        publish(url, "library/bench", weights, digest)
        host = urlsplit(url).netloc
        model = f"{host}/library/bench"
        watched = Watched(server.pid, figures)
        figures.at_rest = watched.resident()
        copy = directory / "copy"
        blob = f"{url}/v2/library/bench/blobs/{digest}"

        def delete() -> None:
            call(server.url, "DELETE", "/api/delete", {"model": model})

        # Each tool's last result goes just before it begins anew, so that all find as much memory that the
        # machine has given out before: the first use of a page costs more than all that is measured.
        def pull() -> float:
            delete()
            flush_disks()
            return watched.run("pull", lambda: _ask(server, "/api/pull", model))

        def fetch(*, careful: bool) -> float:
            copy.unlink(missing_ok=True)
            flush_disks()
            start = time.perf_counter()
            curl("-o", str(copy), blob)
            if careful:
                for command in ("openssl", "dgst", "-sha256"), ("sync",):
                    subprocess.run((*command, str(copy)), check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        _ask(server, "/api/pull", model)
        for repeat in range(-1, repeats):
            mine = pull()
            others = {CURL: fetch(careful=False), CAREFUL: fetch(careful=True)}
            # The first round finds everything cold.
            if repeat >= 0:
                for tool, seconds in {OURS: mine, **others}.items():
                    figures.add("pull", tool, seconds)
        copy.unlink()
        for repeat in range(-1, repeats):
            name = f"{host}/library/push{repeat + 1}"
            call(server.url, "POST", "/api/copy", {"source": model, "destination": name})
            flush_disks()
            mine = watched.run("push", lambda name=name: _ask(server, "/api/push", name))  # type: ignore[misc]
            flush_disks()
            began = time.perf_counter()
            curl_push(url, f"library/curl{repeat + 1}", weights, digest)
            seconds = time.perf_counter() - began
            if repeat >= 0:
                figures.add("push", OURS, mine)
                figures.add("push", CURL, seconds)
    return figures


def table(figures: Figures, size: int) -> str:
    """Throughput and how it compares, and below it the server's memory."""
    lines = ["| operation | tool | MB/s | ollama_tw : this |", "| --- | --- | ---: | ---: |"]
    for operation, tools in figures.seconds.items():
        for tool, found in tools.items():
            ratio = median(other / mine for mine, other in zip(tools[OURS], found, strict=True))
            lines.append(f"| {operation} | {tool} | {size / median(found) / 1e6:.0f} | {ratio:.2f} |")
    lines.append("")
    lines.append(f"Memory of the server (RSS): {figures.at_rest / MEBIBYTE:.0f} MiB before")
    for operation, largest in figures.largest.items():
        lines.append(f"- {operation}: {(largest - figures.at_rest) / MEBIBYTE:+.0f} MiB at most")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Pull and push against curl with the same bytes.")
    made.add_argument("--registry", default="docker-registry", help="the program (default: docker-registry)")
    made.add_argument("--mebibytes", type=int, default=1024, help="size of the weights (default: 1024)")
    made.add_argument("--repeats", type=int, default=5, help="turn about (default: 5)")
    made.add_argument("--directory", type=Path, help="where to work (default: the temporary folder)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where something did not work."""
    options = parser()
    given = options.parse_args(argv)
    program = shutil.which(given.registry)
    if program is None or shutil.which("curl") is None:
        options.error(f"{given.registry} and curl are needed")
    size = given.mebibytes * MEBIBYTE
    try:
        with tempfile.TemporaryDirectory(dir=given.directory) as directory:
            figures = measure(Path(directory), program, size, given.repeats)
    except (OSError, Unusable) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.write(table(figures, size))
    if given.json:
        document = {
            "bytes": size,
            "seconds": figures.seconds,
            "rss_at_rest": figures.at_rest,
            "rss_largest": figures.largest,
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
