"""Time of the list of many models over HTTP, and of reading the header of a large vocabulary.

``python benchmarks/library.py`` requires the extra ``test``. It creates the store and the file.
"""

import argparse
import hashlib
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import gguf
import numpy

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import Unusable, serving
from ollama_tw.gguf.reader import read_header

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.ollama.image."
_VOCABULARY = 262_144
_TEMPLATE = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "{{ if .Tools }}{{ .Tools }}{{ end }}<|im_start|>assistant\n"
)


def write_model(path: Path, name: str, tokens: int) -> None:
    """Write a GGUF file with a vocabulary, merges, scores and a tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_file_type(15)
    for key, value in (("context_length", 8192), ("embedding_length", 64), ("block_count", 2)):
        writer.add_uint32(f"llama.{key}", value)
    choice = random.Random(7)
    words = ["".join(choice.choices("abcdefghij ", k=choice.randint(1, 12))) + str(n) for n in range(tokens)]
    writer.add_array("tokenizer.ggml.tokens", words)
    writer.add_array("tokenizer.ggml.scores", [float(-n) for n in range(tokens)])
    writer.add_array("tokenizer.ggml.token_type", [1] * tokens)
    writer.add_array("tokenizer.ggml.merges", [f"{left} {right}" for left, right in pairwise(words)])
    writer.add_tensor("token_embd.weight", numpy.zeros((2, 64), dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_store(root: Path, count: int) -> None:
    """Write a store of ``count`` models, each with its own file, template, system, parameters and license."""
    (root / "blobs").mkdir(parents=True)

    def layer(kind: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    for number in range(count):
        file = root / "file"
        write_model(file, f"m{number}", 100)
        config = {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "8.0B",
            "file_type": "Q4_K_M",
            "base_name": f"m{number}",
            "architecture": "amd64",
            "os": "linux",
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": layer(_CONFIG, json.dumps(config).encode()),
            "layers": [
                layer(f"{_LAYER}model", file.read_bytes()),
                layer(f"{_LAYER}template", _TEMPLATE.encode()),
                layer(f"{_LAYER}system", f"You are number {number}.".encode()),
                layer(f"{_LAYER}params", b'{"stop":["\\u003c|im_end|\\u003e"]}\n'),
                layer(f"{_LAYER}license", b"MIT License\n" * 90),
            ],
        }
        path = root / f"manifests/registry.ollama.ai/library/model-{number}/latest"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(manifest))
        file.unlink()


def timed(work: Callable[[], Any]) -> float:
    """Return the milliseconds that ``work`` takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def measure_list(home: Path, count: int) -> None:
    """Start a server on a store of ``count`` models and time the list of models."""
    write_store(home / "models", count)
    with serving(home, {"OLLAMA_MODELS": str(home / "models")}) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)

        def request_list() -> None:
            connection.request("GET", "/api/tags")
            listed = len(json.loads(connection.getresponse().read())["models"])
            if listed != count:
                raise Unusable(f"the server lists {listed} of {count} models")

        print(f"GET /api/tags, {count} models, first: {timed(request_list):.0f} ms")
        print(
            f"GET /api/tags, {count} models, later: {median(timed(request_list) for _ in range(21)):.1f} ms"
        )


def measure_header(directory: Path) -> None:
    """Time reading the header of a file with a large vocabulary, and the same with the ``gguf`` package."""
    path = directory / "vocabulary.gguf"
    write_model(path, "large", _VOCABULARY)
    ours = median(timed(lambda: read_header(path)) for _ in range(5))
    brief = median(timed(lambda: read_header(path, brief=True)) for _ in range(5))
    print(f"header of {_VOCABULARY} tokens and as many merges: {ours:.1f} ms, brief: {brief:.2f} ms")
    print(f"gguf.GGUFReader on the same file: {timed(lambda: gguf.GGUFReader(path)):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure_list(Path(directory) / "home", options.models)
        measure_header(Path(directory))


if __name__ == "__main__":
    main()
