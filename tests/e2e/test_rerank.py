"""A reranker, from its file to the reply."""

from pathlib import Path

import pytest

from tests.e2e.conftest import StartServer
from tests.llama.tiny_rankers import write_ranker

BODY = {"model": "ranker", "query": "w01 w02 query", "documents": ["w10 w20 w30", {"text": "w02 w01"}, ""]}


def test_a_ranker(start: StartServer, tmp_path: Path) -> None:
    server = start().ready()
    write_ranker(tmp_path / "ranker.gguf")
    server.create("ranker", (tmp_path / "ranker.gguf").read_bytes())
    for path in ("/api/rerank", "/v1/rerank"):
        reply = server.post(path, BODY).json
        results = reply["results"]
        assert [one["index"] for one in results] == [1, 2, 0]
        assert [one["document"]["text"] for one in results] == ["w02 w01", "", "w10 w20 w30"]
        assert [one["relevance_score"] for one in results[1:]] == pytest.approx([-3.208, -4.282], abs=0.01)
        assert reply["usage"]["prompt_tokens"] == 35
    long = server.post("/v1/rerank", BODY | {"documents": ["", "w01 " * 119]})
    assert (long.status, long.json["error"]["type"]) == (400, "invalid_request_error")
    assert long.json["error"]["message"] == (
        '"documents[1]" and the query have 129 tokens together, more than the context of 128: '
        "split the document or ask for a larger num_ctx"
    )
    # It has no vectors, and must not be read as if it had.
    refused = server.post("/api/embed", {"model": "ranker", "input": "w01"})
    assert (refused.status, refused.json) == (
        400,
        {"error": "this model is a reranker and does not support embeddings"},
    )
