"""Structured output: conversion of a request's ``format`` to a GBNF grammar for llama.cpp. Pure.

Source: ollama: llm/llama_server.go, Completion.
"""

from collections.abc import Mapping

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.golang.quoting import quote
from ollama_tw.grammar.convert import any_object_gbnf, schema_to_gbnf
from ollama_tw.grammar.document import check_size
from ollama_tw.grammar.reader import limit_grammar
from ollama_tw.wire.native import Note, ignore

__all__ = ["grammar_for", "limit_grammar", "schema_to_gbnf"]


def grammar_for(format_value: object, *, strict: bool = False, note: Note = ignore) -> str | None:
    """Return the GBNF grammar for the decoded value of ``format``; None for no grammar.

    None and ``""`` stand for no grammar, ``"json"`` and the empty schema for any JSON object, other
    mappings are JSON Schemas, of which ``note`` gets what is not enforced.
    Raises :class:`OllamaError` 400 for other values and for invalid schemas, and with ``strict`` for
    schemas that cannot be enforced.
    """
    if format_value is None or format_value == "":
        return None
    if format_value == "json" or format_value == {}:
        return any_object_gbnf()
    if isinstance(format_value, Mapping):
        return schema_to_gbnf(format_value, strict=strict, note=note)
    check_size(format_value)
    raw = gojson.encode(format_value).decode()
    raise OllamaError(400, f'invalid format: {quote(raw)}; expected "json" or a valid JSON Schema object')
