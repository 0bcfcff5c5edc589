"""``ollama fit``: files, models of this machine, and models of a registry whose header alone is read."""

import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ollama_tw.cli.fitting import fit_text, verdict
from ollama_tw.library.manifests import CONFIG, MODEL, PARAMS, PROJECTOR, Layer, Manifest, encode_manifest
from tests.cli.conftest import Ollama, Result, runner
from tests.helpers.gguf_files import write_gguf
from tests.helpers.threads import serve_on_thread

METADATA = {
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.block_count": 3,
}
# Three layers with keys and values of 32 elements of two bytes for each token.
CACHE_OF_A_TOKEN = 3 * 2 * 32 * 2


@pytest.fixture
def ollama(tmp_path: Path) -> Ollama:
    """Return a function that runs a command line without a server."""
    return runner(tmp_path, "127.0.0.1:1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", metadata=METADATA)


def answer(ollama: Ollama, *arguments: str, **variables: str) -> dict[str, Any]:
    result = ollama("fit", *arguments, "--json", **variables)
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_a_file(ollama: Ollama, model: Path) -> None:
    result = ollama("fit", "m.gguf", "--context", "1024")
    assert (result.code, result.err) == (0, "")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == "Model"
    assert lines[1:4] == ["architecture llama", "parameters 160", "quantization F16"]
    assert lines[4:6] == ["layers 4", "context length 4096"]
    assert "Memory for 1 request of 1024 tokens" in lines
    assert f"K/V cache {1024 * CACHE_OF_A_TOKEN // 1000} KB" in lines
    assert any(re.fullmatch(r"CPU .* 4 of 4 layers [\d.]+ [KM]B of [\d.]+ GB free", line) for line in lines)
    assert lines[-3] == "Fits into main memory."
    assert lines[-2] == "Longest context: 4096 tokens, all that it was trained for."
    assert lines[-1].startswith("Expected speed: fast, roughly ")


def test_the_cache_grows_with_context_and_requests(ollama: Ollama, model: Path) -> None:
    small = answer(ollama, str(model))
    assert (small["context"], small["parallel"]) == (2048, 1)
    large = answer(ollama, str(model), "--context", "99999", "--parallel", "3")
    assert (large["context"], large["parallel"]) == (4096, 3)
    assert large["parts"]["cache"] == 3 * 4096 * CACHE_OF_A_TOKEN
    assert large["total"] == sum(large["parts"].values())
    quantised = answer(ollama, str(model), OLLAMA_KV_CACHE_TYPE="q8_0", OLLAMA_CONTEXT_LENGTH="4096")
    assert quantised["parts"]["cache"] * 32 == 4096 * CACHE_OF_A_TOKEN // 2 * 34


def test_a_model_that_does_not_fit(ollama: Ollama, model: Path) -> None:
    result = ollama("fit", str(model), "--parallel", "99999999")
    assert (result.code, result.err) == (1, "")
    assert "Does not fit: model requires more system memory (" in result.out


LAYER = {
    "architecture": "llama",
    "parameters": 10**9,
    "quantization": "Q4_K_M",
    "backend": "cuda",
    "parallel": 2,
}
SPLIT = {
    **LAYER,
    "layers": 33,
    "context": 8192,
    "trained_context": 131072,
    "parts": {"weights": 5 * 10**9, "cache": 10**9, "compute": 10**8, "projector": 0},
    "total": 61 * 10**8,
    "devices": [
        {"name": "CUDA0", "description": "Card", "kind": "gpu", "total": 8, "free": 8 * 10**9, "layers": 20,
         "used": 4 * 10**9},
        {"name": "CPU", "description": "Chip", "kind": "cpu", "total": 8, "free": 9 * 10**9, "layers": 13,
         "used": 2 * 10**9},
    ],
    "reason": "",
    "longest_context": 16384,
    "tokens_per_second": 13.7,
}  # fmt: skip


def test_a_model_that_is_split() -> None:
    text = fit_text(SPLIT)
    assert "  Memory for 2 requests of 8192 tokens\n    weights            5 GB      \n" in text
    assert "    CUDA0    Card    20 of 33 layers    4 GB of 8 GB free    \n" in text
    assert verdict(SPLIT) == (
        "  Fits, 20 of 33 layers on the GPU.\n"
        "  Longest context: 16384 tokens.\n"
        "  Expected speed: as fast as one reads, roughly 10 tokens/s for one request.\n"
    )


def test_what_would_fit() -> None:
    assert verdict({**SPLIT, "reason": "too large"}) == (
        "  Does not fit: too large.\n  It fits with a context of 16384 tokens: --context 16384\n"
    )
    assert verdict({**SPLIT, "reason": "too large", "longest_context": 0}).endswith(
        "  Free memory, or choose a smaller model or quantization.\n"
    )


def installed(home: Path, blobs: dict[str, bytes]) -> None:
    """Store the model ``m`` with a layer for each media type."""
    root = home / ".ollama/models"
    (root / "blobs").mkdir(parents=True)
    for data in blobs.values():
        (root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}").write_bytes(data)
    path = root / "manifests/registry.ollama.ai/library/m/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest(blobs))


def manifest(blobs: dict[str, bytes]) -> bytes:
    layers = [
        Layer(kind, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) for kind, data in blobs.items()
    ]
    return encode_manifest(Manifest(2, "", layers[0], tuple(layers[1:])))


def test_a_model_of_this_machine_needs_no_server(ollama: Ollama, tmp_path: Path, model: Path) -> None:
    layers = {CONFIG: b"{}", MODEL: model.read_bytes(), PROJECTOR: b"p" * 5000, PARAMS: b'{"num_ctx":512}'}
    installed(tmp_path, layers)
    found = answer(ollama, "M")
    assert found["context"] == 512
    assert found["parts"]["projector"] == 5000
    assert answer(ollama, "m", "--context", "1024")["context"] == 1024


class Registry(BaseHTTPRequestHandler):
    """A registry with the model ``library/big``, whose file is ``data``."""

    data: ClassVar[bytes] = b""
    ignores_ranges: ClassVar[bool] = False
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        document = manifest({CONFIG: b"{}", MODEL: self.data})
        if self.path == "/v2/library/big/manifests/latest":
            self.reply(200, document)
        elif self.path.startswith("/v2/library/big/blobs/sha256:"):
            self.send_response(307)
            self.send_header("Location", "/storage")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/storage":
            wanted = self.headers["Range"]
            self.sent.append(wanted)
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            if self.ignores_ranges:
                self.reply(200, self.data)
            else:
                self.reply(206, self.data[first : last + 1])
        else:
            self.reply(404, b"{}")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the client has what it needs

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return host and port of a registry whose model has a header of 5 MiB and weights of 8 MiB."""
    tokens = tuple(f"token {number} {'x' * 480}" for number in range(10_000))
    path = write_gguf(tmp_path / "big.gguf", metadata=METADATA, tokens=tokens)
    monkeypatch.setattr(Registry, "data", path.read_bytes() + bytes(8 << 20))
    path.unlink()
    Registry.sent.clear()
    with serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), Registry)) as host:
        yield host


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_model_of_a_registry(
    ollama: Ollama, registry: str, monkeypatch: pytest.MonkeyPatch, ignores_ranges: bool
) -> None:
    monkeypatch.setattr(Registry, "ignores_ranges", ignores_ranges)
    found = answer(ollama, f"{registry}/library/big", "--insecure")
    assert (found["architecture"], found["layers"]) == ("llama", 4)
    # The first part does not hold the header; the rest of the file is not asked for unless it is small.
    assert Registry.sent[0] == f"bytes=0-{(4 << 20) - 1}"
    assert len(Registry.sent) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["none.gguf"], "no such file: none.gguf"),
        (["a b"], "invalid model name: a b"),
        (["m.gguf", "--context", "0"], 'invalid argument "0" for "--context" flag: it must be at least 1'),
        ([], "accepts 1 arg(s), received 0"),
    ],
)
def test_invalid_arguments(ollama: Ollama, model: Path, arguments: list[str], error: str) -> None:
    assert ollama("fit", *arguments) == Result(1, "", f"Error: {error}\n")


def test_files_that_are_no_models(ollama: Ollama, registry: str, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    result = ollama("fit", "bad.gguf")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("Error: bad.gguf: ")
    missing = ollama("fit", f"{registry}/library/none", "--insecure")
    assert missing == Result(1, "", f"Error: {registry} has no such model, and there is no such file\n")
    closed = ollama("fit", "127.0.0.1:1/library/none", "--insecure")
    assert (
        closed.err == "Error: 127.0.0.1:1 cannot be reached, and there is no such file: connection refused\n"
    )
