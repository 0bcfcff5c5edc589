"""Structured output and embeddings of the real model, with common clients."""

import asyncio
from typing import Any, Literal

import ollama
import pytest
from pydantic import BaseModel, Field

from tests.helpers.server import MODEL, Server

ASKED = "The cat Tom is grey, three years old, and likes fish and milk. Describe him as JSON."
TOLERANCE = 1e-5
GREEDY = {"temperature": 0, "num_predict": 120}


class Pet(BaseModel):
    name: str = Field(max_length=20)
    kind: Literal["cat", "dog", "fish"]
    age: int = Field(ge=0, le=30)
    likes: list[str] = Field(min_length=1, max_length=2)


def test_a_pydantic_model(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": ASKED}]
    reply = client.chat(MODEL, messages, format=Pet.model_json_schema(), options=GREEDY)
    assert reply.done_reason == "stop"
    pet = Pet.model_validate_json(reply.message.content or "")
    assert pet.kind == "cat"


def test_a_pydantic_model_streamed_from_generate(client: ollama.Client) -> None:
    pieces = client.generate(MODEL, ASKED, format=Pet.model_json_schema(), options=GREEDY, stream=True)
    Pet.model_validate_json("".join(piece.response or "" for piece in pieces))


def test_embeddings_are_the_same_alone_and_together(server: Server, client: ollama.Client) -> None:
    texts = ["The cat sleeps.", "A ship sails."]
    together = client.embed(MODEL, texts).embeddings
    assert [len(vector) for vector in together] == [576, 576]
    for text, vector in zip(texts, together, strict=True):
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
        (alone,) = client.embed(MODEL, text).embeddings
        assert alone == pytest.approx(vector, abs=TOLERANCE)

    async def one() -> Any:
        asynchronous = ollama.AsyncClient(host=server.url)
        reply = await asynchronous.embed(MODEL, texts[0])
        await asynchronous._client.aclose()
        return reply.embeddings[0]

    assert asyncio.run(one()) == pytest.approx(together[0], abs=TOLERANCE)


def test_langchain(server: Server) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    chat = langchain.ChatOllama(model=MODEL, base_url=server.url, temperature=0, num_predict=120)
    pet = chat.with_structured_output(Pet, method="json_schema").invoke(ASKED)
    assert isinstance(pet, Pet)
    embedder = langchain.OllamaEmbeddings(model=MODEL, base_url=server.url)
    vectors = embedder.embed_documents(["The cat sleeps.", "A ship sails."])
    assert [len(vector) for vector in vectors] == [576, 576]
    assert embedder.embed_query("The cat sleeps.") == pytest.approx(vectors[0], abs=TOLERANCE)
