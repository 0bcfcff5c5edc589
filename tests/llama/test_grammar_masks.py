"""The tokens that a grammar allows are found without trying the whole vocabulary, and are the same."""

import random
from typing import Any

import numpy as np
import pytest

from ollama_tw.grammar import schema_to_gbnf
from ollama_tw.interfaces import Job, Sampling
from ollama_tw.llama import sampler
from ollama_tw.llama.grammar import Grammar
from ollama_tw.llama.prefixes import Mask, Prefixes, Tokens
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.vocabulary import LlamaVocabulary

TEXTS = [b"", b"a", b"ab", b"abc", b"abcde", b"abcdef", b"b", b"\xc3", b"\xc3\xa9", b"\xa9", b"<e>"]
APART = b"<e>"

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 30},
        "kind": {"enum": ["é", "日本", "plain"]},
        "size": {"type": "integer", "minimum": 17},
    },
    "required": ["name", "kind", "size"],
}
GRAMMARS = {
    "schema": schema_to_gbnf(SCHEMA),
    "json": schema_to_gbnf({}),
    "classes": 'root ::= [^é"]+ [a-zé日]+',
    "spaces": 'root ::= [ \\t\\n]+ "x"',
}


def allowed(*texts: bytes) -> list[bytes]:
    """Return the tokens that are found if these texts are allowed."""
    tried: list[int] = []

    def apply(tokens: Tokens) -> Mask:
        tried.extend(tokens.tolist())
        return np.array([TEXTS[token] in texts for token in tokens])

    found = Prefixes(TEXTS, [text == APART for text in TEXTS]).allowed(apply)
    assert len(tried) == len(set(tried))
    return [TEXTS[token] for token in found]


def test_longer_tokens_are_found_through_shorter_ones() -> None:
    assert allowed(b"a", b"ab", b"abc", b"abcde") == [b"a", b"ab", b"abc", b"abcde"]
    assert allowed(b"b", b"<e>") == [b"b", b"<e>"]
    assert allowed(b"\xc3", b"\xc3\xa9") == [b"\xc3", b"\xc3\xa9"]


def test_a_token_within_a_character_depends_on_no_other_one() -> None:
    assert allowed(b"\xa9") == [b"\xa9"]


def test_tokens_behind_a_rejected_one_are_not_tried() -> None:
    assert allowed(b"abc", b"abcde") == []


@pytest.fixture
def vocabulary(shared_smol: LlamaRunner) -> LlamaVocabulary:
    return shared_smol._model.vocabulary


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_mask_is_that_of_the_whole_vocabulary(vocabulary: LlamaVocabulary, name: str) -> None:
    vocabulary.prefixes().result()
    choice = random.Random(name)
    grammar = Grammar(vocabulary, GRAMMARS[name])
    try:
        everything = np.arange(vocabulary.size, dtype=np.int32)
        for _ in range(40):
            expected = grammar.among(everything)
            assert grammar.allowed().tolist() == expected.tolist()
            going_on = [token for token in expected if not vocabulary.ends_generation(token)]
            if not going_on:
                break
            grammar.accept(choice.choice(going_on))
    finally:
        grammar.close()


def test_few_tokens_are_tried_where_few_are_allowed(
    vocabulary: LlamaVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary.prefixes().result()
    tried: list[int] = []
    try_tokens = Grammar._try

    def count(self: Grammar, tokens: Tokens) -> Mask:
        tried.append(len(tokens))
        return try_tokens(self, tokens)

    monkeypatch.setattr(Grammar, "_try", count)
    grammar = Grammar(vocabulary, GRAMMARS["schema"])
    assert len(grammar.allowed()) < 50
    grammar.close()
    assert sum(tried) < vocabulary.size / 20


@pytest.mark.parametrize(
    ("options", "bias"),
    [
        ({"temperature": 0.0}, ()),
        ({"temperature": 1.5, "top_k": 40}, ()),
        ({"temperature": 1.5, "top_k": 2, "repeat_penalty": 1.5, "presence_penalty": 1.0}, ((50, -8.0),)),
        ({"temperature": 1.5, "top_k": 2, "repeat_penalty": 0.5}, ()),
        ({"temperature": 1.5, "top_k": 2}, ((49, 8.0),)),
        ({"temperature": 1.5, "top_k": 0}, ()),
    ],
)
def test_the_output_is_that_of_the_whole_vocabulary(
    shared_smol: LlamaRunner,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    bias: tuple[tuple[int, float], ...],
) -> None:
    def texts() -> list[str]:
        sampling = [Sampling(seed=seed, **options) for seed in range(3)]
        grammar = GRAMMARS["schema"]
        jobs = [Job("Once upon", one, max_tokens=16, grammar=grammar, logit_bias=bias) for one in sampling]
        return ["".join(piece.text for piece in shared_smol.generate(job)) for job in jobs]

    shared_smol._model.vocabulary.prefixes().result()
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "_MOST_LIKELY", 72)
        found = texts()
        patch.setattr(sampler, "_MOST_LIKELY", 0)
        patch.setattr(Grammar, "allowed", lambda self: self.among(np.arange(self._size, dtype=np.int32)))
        assert texts() == found


@pytest.mark.parametrize(
    ("grammar", "longest"),
    [('root ::= ([a-z/ ]+ "/")+ "x"', 8), ("root ::= [a-z/ ]+", 100)],
    ids=["many readings", "one reading"],
)
def test_long_tokens_are_left_out_where_they_have_many_readings(
    vocabulary: LlamaVocabulary, grammar: str, longest: int
) -> None:
    place = Grammar(vocabulary, grammar)
    try:
        texts = [vocabulary.piece(int(token)) for token in place.allowed()]
    finally:
        place.close()
    lengths = {len(text) for text in texts}
    assert {1, 4, 8} <= lengths
    assert max(lengths) <= longest
    assert (max(lengths) > 8) is (longest > 8)
    # The marks of the vocabulary are more than text.
    assert vocabulary.lengths()[vocabulary.tokenize("<|im_end|>", add_special=False)[0]] == 0
