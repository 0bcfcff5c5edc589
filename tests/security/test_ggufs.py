"""Hostile model files: CVE-2024-39720, -12055, -8063, CVE-2025-0312, -0315, -0317, CVE-2026-7482.

The corpus of invalid files is in ``tests/gguf/test_reader.py``, here it is uploaded over HTTP. Valid
files are loaded by the real llama.cpp in a separate process.
"""

import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.interfaces import LoadPlan, RunnerError
from ollama_tw.llama.runner import LlamaRunner
from tests.gguf.test_reader import HOSTILE
from tests.gguf.test_validation import ABORTING
from tests.helpers.application import Application
from tests.helpers.gguf_files import raw_gguf, raw_tensor, text, write_gguf
from tests.helpers.http import Reply
from tests.helpers.server import Server, running
from tests.security.llamas import METADATA, SHAPES, write_llama


def refusal(app: Application, data: bytes) -> str:
    digest = app.upload(data)
    for name in ("m.gguf", "m.bin"):
        reply = app.post("/api/create", {"model": "bad", "files": {name: digest}, "stream": False})
        assert reply.status == 400
    text: str = reply.json["error"]
    assert app.post("/api/show", {"model": "bad"}).status == 404
    return text


@pytest.mark.parametrize(("data", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_headers(app: Application, data: bytes, message: str) -> None:
    assert refusal(app, data) in (message, "supplied file was not in GGUF format", "unknown type")


def test_truncated_files(app: Application, tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole").read_bytes()
    for end in [*range(40), *range(40, len(whole), 29), len(whole) - 1]:
        assert refusal(app, whole[:end])


def test_tensors_outside_the_file(app: Application) -> None:
    """CVE-2026-7482: memory beyond the file became part of a model."""
    for offset in (32, 2**31 & ~31, 2**63, 2**64 - 32):
        data = raw_gguf(tensors=1, body=raw_tensor("t", (8,), offset=offset) + bytes(64))
        assert "exceeds file size" in refusal(app, data)


def test_counts(app: Application) -> None:
    for count in (2**31, 2**32 - 1, 2**63, 2**64 - 1):
        assert refusal(app, raw_gguf(keys=count))
        assert refusal(app, raw_gguf(tensors=count))
        strings = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, count)
        assert refusal(app, raw_gguf(keys=1, body=strings))


@pytest.mark.parametrize("name", ABORTING)
def test_models_that_abort_llama_cpp_are_not_created(app: Application, tmp_path: Path, name: str) -> None:
    metadata, message = ABORTING[name]
    digest = app.upload(write_llama(tmp_path / "m.gguf", metadata))
    reply = app.post("/api/create", {"model": "bad", "files": {"m.gguf": digest}, "stream": False})
    assert (reply.status, reply.json) == (400, {"error": message})


def test_models_that_were_not_created_are_validated_before_loading(app: Application, tmp_path: Path) -> None:
    app.create("swapped", write_llama(tmp_path / "good.gguf"))
    bad = app.upload(write_llama(tmp_path / "bad.gguf", {"llama.block_count": 0})).partition(":")[2]
    manifests = app.home / ".ollama/models/manifests/registry.ollama.ai/library/swapped"
    manifest = manifests / "latest"
    good_layer = next(
        layer for layer in layers_of(manifest) if layer["mediaType"] == "application/vnd.ollama.image.model"
    )
    size = (tmp_path / "bad.gguf").stat().st_size
    changed = manifest.read_text().replace(good_layer["digest"], f"sha256:{bad}")
    manifest.write_text(changed.replace(f'"size":{good_layer["size"]}', f'"size":{size}'))
    loads = app.loads
    for path in ("generate", "chat", "embed"):
        reply = app.post(f"/api/{path}", {"model": "swapped", "prompt": "x"})
        assert (reply.status, reply.json["error"]) == (
            400,
            "the model cannot be loaded: the model declares 0 layers, not 1 to 512",
        )
    assert app.loads == loads


def layers_of(manifest: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(manifest.read_text())["layers"]
    return found


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server process with the real llama.cpp and the model ``good``."""
    home = tmp_path_factory.mktemp("real")
    with running(home, OLLAMA_LLM_LIBRARY="cpu") as server:
        assert create(server, "good", write_llama(home / "good.gguf")).status == 200
        yield server


def create(server: Server, name: str, data: bytes) -> Reply:
    files = {"m.gguf": server.upload(data)}
    return server.post("/api/create", {"model": name, "files": files, "stream": False})


def ask(server: Server, model: str) -> Reply:
    body = {
        "model": model,
        "prompt": "hi",
        "raw": True,
        "stream": False,
        "options": {"num_predict": 2, "num_thread": 1, "num_ctx": 64},
    }
    return server.post("/api/generate", body)


_TOKENS = METADATA["tokenizer.ggml.tokens"]
REJECTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"no {key}": ({key: None}, {})
        for key in METADATA
        if key.startswith("llama.att") and key[-3:] != "_kv"
    },
    "no layers": ({"llama.block_count": None}, {}),
    "no width": ({"llama.embedding_length": None}, {}),
    "no vocabulary": ({"tokenizer.ggml.tokens": None}, {}),
    "no tokenizer": ({"tokenizer.ggml.model": None}, {}),
    "no heads": ({"llama.attention.head_count": 0}, {}),
    "heads 2^31": ({"llama.attention.head_count": 2**31}, {}),
    "width 2^31": ({"llama.embedding_length": 2**31}, {}),
    "heads a list": ({"llama.attention.head_count": [2, 2, 2]}, {}),
    "layers a text": ({"llama.block_count": "x"}, {}),
    "rotation odd": ({"llama.rope.dimension_count": 15}, {}),
    "tokens numbers": ({"tokenizer.ggml.tokens": [1] * 260}, {}),
    "one token": ({"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.model": "gpt2"}, {}),
    "unknown tokenizer": ({"tokenizer.ggml.model": "x"}, {}),
    "charsmap": (
        {"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": [255, 255, 255, 255, 1]},
        {},
    ),
    # llama.cpp's default special tokens are outside of so small a vocabulary.
    **{
        f"{kind} adds a token": (
            {
                "llama.vocab_size": 3,
                "tokenizer.ggml.model": kind,
                "tokenizer.ggml.tokens": ["a", "b", "▁"],
                "tokenizer.ggml.token_type": [1, 1, 1],
                "tokenizer.ggml.scores": [0.0, 0.0, 0.0],
                "tokenizer.ggml.merges": ["a b"],
                "tokenizer.ggml.bos_token_id": None,
                "tokenizer.ggml.eos_token_id": 2**31 - 1,
                "tokenizer.ggml.add_bos_token": kind == "t5",
                "tokenizer.ggml.add_eos_token": kind == "gpt2",
            },
            {"token_embd.weight": (3, 32)},
        )
        for kind in ("gpt2", "t5", "bert")
    },
    **{f"no {name}": ({}, {name: None}) for name in SHAPES if name != "token_embd.weight"},
    "thin": ({}, {"blk.0.ffn_up.weight": (1,)}),
    "empty": ({}, {"blk.0.attn_q.weight": (0, 32)}),
    "other shape": ({}, {"token_embd.weight": (32, 260)}),
}


@pytest.mark.parametrize("name", REJECTED)
def test_models_that_llama_cpp_rejects(real: Server, tmp_path: Path, name: str) -> None:
    metadata, shapes = REJECTED[name]
    created = create(real, "bad", write_llama(tmp_path / "m.gguf", metadata, shapes))
    if created.status == 200:
        reply = ask(real, "bad")
        assert reply.status in (400, 500)
        assert reply.json["error"]
        assert "/" not in reply.json["error"].replace("key/value", "")
    else:
        assert created.status == 400
    assert ask(real, "good").status == 200


def test_tensors_that_overlap_are_not_loaded(real: Server, tmp_path: Path) -> None:
    data = write_llama(tmp_path / "m.gguf")
    name = "blk.0.ffn_up.weight"
    after = data.index(text(name)) + len(text(name))
    (dimensions,) = struct.unpack_from("<I", data, after)
    place = after + 4 + 8 * dimensions + 4
    assert create(real, "bad", data[:place] + bytes(8) + data[place + 8 :]).status == 200
    reply = ask(real, "bad")
    assert reply.status in (400, 500)
    assert reply.json["error"]
    assert ask(real, "good").status == 200


def test_unusual_models_do_not_stop_the_server(real: Server, tmp_path: Path) -> None:
    for metadata in (
        {"llama.context_length": 0},
        {"llama.context_length": 1},
        {"llama.context_length": 2**31 - 1},
        {"tokenizer.ggml.bos_token_id": 2**31},
        {"tokenizer.ggml.eos_token_id": 2**32 - 1},
        {"tokenizer.ggml.token_type": [99] * 260},
        {"tokenizer.ggml.scores": [0.5]},
        {"llama.rope.freq_base": float("nan")},
        {"llama.vocab_size": 2**31},
        {"llama.pooling_type": 3},
    ):
        if create(real, "odd", write_llama(tmp_path / "m.gguf", metadata)).status == 200:
            assert ask(real, "odd").status in (200, 400, 500)
        assert ask(real, "good").status == 200


def test_a_reranker_leaks_no_memory(tmp_path: Path) -> None:
    """CVE-2026-7482: memory beyond a score was returned with it."""
    path = tmp_path / "m.gguf"
    write_llama(path, {"llama.pooling_type": 4})
    runner = LlamaRunner(LoadPlan(str(path), context_length=64, threads=1), [], lambda done: True)
    try:
        with pytest.raises(RunnerError, match="this model is a reranker and does not support embeddings"):
            runner.embed(["hi"], threading.Event())
    finally:
        runner.close()


@pytest.mark.parametrize(
    "grammar", ["root ::= root", "root ::= nowhere", 'root ::= "a', "", "x ::= 5", "root ::= [^", "\x00"]
)
def test_grammars_that_llama_cpp_rejects(real: Server, grammar: str) -> None:
    body = {"model": "good", "prompt": "hi", "raw": True, "stream": False}
    options = {"num_predict": 2, "num_thread": 1, "num_ctx": 64, "grammar": grammar}
    reply = real.post("/api/generate", {**body, "options": options})
    assert reply.status == 400
    assert ask(real, "good").status == 200


def test_contexts_and_batches_of_any_size(real: Server) -> None:
    body = {"model": "good", "prompt": "hi", "raw": True, "stream": False}
    for options in (
        {"num_ctx": 2**31 - 1},
        {"num_ctx": 4},
        {"num_batch": 1},
        {"num_batch": 65536},
        {"num_keep": 2**31 - 1},
        {"repeat_last_n": 2**31 - 1},
        {"top_k": 2**31 - 1},
        {"temperature": 0, "min_p": 1, "top_p": 0, "typical_p": 0},
        {"temperature": 1000, "repeat_penalty": 0, "presence_penalty": -1000, "frequency_penalty": 1000},
        {"seed": 2**63 - 1},
    ):
        reply = real.post(
            "/api/generate", {**body, "options": {"num_predict": 2, "num_thread": 1, **options}}
        )
        assert reply.status in (200, 400)
        assert ask(real, "good").status == 200
