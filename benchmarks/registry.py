"""Compare pull and push with curl on the same data: `python benchmarks/registry.py --help`."""

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

from benchmarks.server import PATIENCE, Started, Unusable, call, serving

MEBIBYTE = 1 << 20
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OURS = "ollama_tw"
# curl alone, and with the digest check and the sync to disk that a pull includes.
CURL = "curl"
CAREFUL = "curl, openssl, sync"
_CONFIG = b'{"model_format":"gguf"}'


def flush_disks() -> None:
    """Write all cached file data to the disks, so that no tool is measured with the data of another."""
    if sys.platform != "win32":
        os.sync()


@dataclass
class Figures:
    """Seconds of every repeat by operation and tool, and resident memory of the server in bytes."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    at_rest: int = 0
    largest: dict[str, int] = field(default_factory=dict)

    def add(self, operation: str, tool: str, seconds: float) -> None:
        self.seconds.setdefault(operation, {}).setdefault(tool, []).append(seconds)


class Watched:
    """Runs functions and samples the resident memory of a process meanwhile."""

    def __init__(self, pid: int, figures: Figures) -> None:
        self._process = psutil.Process(pid)
        self._figures = figures

    def resident(self) -> int:
        """Return the resident memory of the process in bytes, at little cost to the measurement."""
        return int(self._process.memory_info().rss)

    def run(self, operation: str, work: Callable[[], object]) -> float:
        """Call ``work`` and return its seconds. The peak memory is recorded as that of ``operation``."""
        over = threading.Event()
        largest = [self.resident()]

        def sample() -> None:
            while not over.wait(0.05):
                largest.append(self.resident())

        sampler = threading.Thread(target=sample)
        sampler.start()
        start = time.perf_counter()
        try:
            work()
            seconds = time.perf_counter() - start
        finally:
            over.set()
            sampler.join()
        known = self._figures.largest.get(operation, 0)
        self._figures.largest[operation] = max(known, *largest)
        return seconds


@contextmanager
def registry(directory: Path, program: str) -> Iterator[str]:
    """Run a registry with an empty store and yield its URL. Raises Unusable if it does not start."""
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
    """Run curl and return its output. Raises Unusable unless the status is 2xx."""
    program = shutil.which("curl")
    if program is None:
        raise Unusable("curl is not installed")
    done = subprocess.run(
        (program, "--silent", "--show-error", "--fail", "--noproxy", "*", *arguments),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Unusable(f"curl: {done.stderr.strip()}")
    return done.stdout


def curl_push(url: str, repository: str, file: Path, digest: str) -> None:
    """Upload a blob in one piece."""
    started = curl("-D", "-", "-X", "POST", f"{url}/v2/{repository}/blobs/uploads/")
    binary = ("-H", "Content-Type: application/octet-stream")
    sent = curl("-D", "-", "-X", "PATCH", *binary, "-T", str(file), _location(started))
    curl("-X", "PUT", "-H", "Content-Length: 0", f"{_location(sent)}&digest={digest}")


def _location(headers: str) -> str:
    found = re.search(r"^location: (\S+)", headers, re.IGNORECASE | re.MULTILINE)
    if not found:
        raise Unusable("the registry sent no location for the upload")
    return found[1]


def publish(url: str, repository: str, weights: Path, digest: str) -> None:
    """Push a model with these weights to the registry with curl."""
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


def _request(server: Started, path: str, model: str) -> None:
    reply = call(server.url, "POST", path, {"model": model, "insecure": True, "stream": False})
    if json.loads(reply) != {"status": "success"}:
        raise Unusable(f"{path}: {reply.decode()}")


def measure(directory: Path, program: str, size: int, repeats: int) -> Figures:
    """Measure all operations alternately in ``directory``; ``size`` in bytes. Raises Unusable, OSError."""
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

        # The previous result of a tool is deleted just before its next run, so that all tools reuse pages of
        # the page cache: the first use of a page costs more than the operations that are measured.
        def pull() -> float:
            delete()
            flush_disks()
            return watched.run("pull", lambda: _request(server, "/api/pull", model))

        def fetch(*, careful: bool) -> float:
            copy.unlink(missing_ok=True)
            flush_disks()
            start = time.perf_counter()
            curl("-o", str(copy), blob)
            if careful:
                for command in ("openssl", "dgst", "-sha256"), ("sync",):
                    subprocess.run((*command, str(copy)), check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        _request(server, "/api/pull", model)
        for repeat in range(-1, repeats):
            mine = pull()
            others = {CURL: fetch(careful=False), CAREFUL: fetch(careful=True)}
            # The first round warms the caches.
            if repeat >= 0:
                for tool, seconds in {OURS: mine, **others}.items():
                    figures.add("pull", tool, seconds)
        copy.unlink()
        for repeat in range(-1, repeats):
            name = f"{host}/library/push{repeat + 1}"
            call(server.url, "POST", "/api/copy", {"source": model, "destination": name})
            flush_disks()
            mine = watched.run("push", lambda name=name: _request(server, "/api/push", name))  # type: ignore[misc]
            flush_disks()
            began = time.perf_counter()
            curl_push(url, f"library/curl{repeat + 1}", weights, digest)
            seconds = time.perf_counter() - began
            if repeat >= 0:
                figures.add("push", OURS, mine)
                figures.add("push", CURL, seconds)
    return figures


def table(figures: Figures, size: int) -> str:
    """Return a Markdown table of the throughput and the ratios, and the memory of the server."""
    lines = ["| operation | tool | MB/s | ollama_tw : this |", "| --- | --- | ---: | ---: |"]
    for operation, tools in figures.seconds.items():
        for tool, found in tools.items():
            ratio = median(other / mine for mine, other in zip(tools[OURS], found, strict=True))
            lines.append(f"| {operation} | {tool} | {size / median(found) / 1e6:.0f} | {ratio:.2f} |")
    lines.append("")
    lines.append(f"Memory of the server (RSS): {figures.at_rest / MEBIBYTE:.0f} MiB idle")
    for operation, largest in figures.largest.items():
        lines.append(f"- {operation}: {(largest - figures.at_rest) / MEBIBYTE:+.0f} MiB at peak")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Compare pull and push with curl on the same data.")
    made.add_argument(
        "--registry", default="docker-registry", help="program of the registry (default: docker-registry)"
    )
    made.add_argument(
        "--mebibytes", type=int, default=1024, help="size of the weights in MiB (default: 1024)"
    )
    made.add_argument(
        "--repeats", type=int, default=5, help="repeats, alternating between the tools (default: 5)"
    )
    made.add_argument("--directory", type=Path, help="scratch directory (default: that for temporary files)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status: 1 if an operation failed."""
    options = parser()
    given = options.parse_args(argv)
    program = shutil.which(given.registry)
    if program is None or shutil.which("curl") is None:
        options.error(f"{given.registry} and curl are required")
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
