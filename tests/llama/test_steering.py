"""Start of lazy grammars and limits of the thinking, on texts and in a real model."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.interfaces import DoneReason, Job, LazyGrammar, Sampling, ThinkingBudget
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.steering import GrammarStart, ThinkingLimit, Written
from ollama_tw.testing.contract import Consumer

GREEDY = Sampling(temperature=0)
CALLS = LazyGrammar("root ::= any", ("<call>", "<function="), "</think>")


def cut(text: str, cuts: Sequence[int]) -> list[bytes]:
    data = text.encode()
    places = sorted({min(at, len(data)) for at in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


def spelled(data: bytes) -> list[int]:
    """Tokens of a text by its bytes, which differ from the numbers of the pieces in these tests."""
    return [1000 + byte for byte in data]


def begin(lazy: LazyGrammar, pieces: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the text before the grammar begins, with all of its last token, and the text that it accepts."""
    start = GrammarStart(lazy, spelled)
    for number, piece in enumerate(pieces):
        tokens = start.feed(Written(number, piece))
        if tokens is not None:
            accepted = b"".join(bytes([each - 1000]) if each >= 1000 else pieces[each] for each in tokens)
            return b"".join(pieces[: number + 1]), accepted
    return None


@given(st.lists(st.integers(0, 60), max_size=30), st.sampled_from(["<call>", "<function="]))
def test_a_grammar_begins_with_its_trigger_however_the_text_is_cut(cuts: list[int], trigger: str) -> None:
    text = f"<call> is a mark </think> näch<cal {trigger}rest <call>"
    found = begin(CALLS, cut(text, cuts))
    assert found is not None
    before, accepted = found
    assert accepted.startswith(trigger.encode())
    assert before.endswith(accepted)
    assert before.decode(errors="ignore").startswith(text[: text.index(trigger, 10) + len(trigger)])


@given(st.lists(st.integers(0, 40), max_size=20))
def test_no_trigger_counts_while_the_thinking_is_open(cuts: list[int]) -> None:
    assert begin(CALLS, cut("<call> and <call> </thin k>", cuts)) is None


OPTIONAL = LazyGrammar("root ::= any", ("<call>",), "</think>", "<think>")


@given(st.lists(st.integers(0, 60), max_size=30))
def test_thinking_that_the_output_may_begin_with(cuts: list[int]) -> None:
    found = begin(OPTIONAL, cut("\n<think> <call> </think> <call>x", cuts))
    assert found is not None
    assert b"</think>" in found[0][: -len(found[1])]
    found = begin(OPTIONAL, cut("<thin <call>x</think><call>", cuts))
    assert found is not None
    assert found[0][: -len(found[1])] == b"<thin "
    assert begin(OPTIONAL, cut("<think> <call>", cuts)) is None


def test_no_trigger_no_grammar() -> None:
    assert begin(LazyGrammar("root ::= any", ("<call>",)), [b"<cal", b"<", b"call"]) is None


CLOSING = (900, 901)


def think(budget: ThinkingBudget, pieces: Sequence[str | bytes]) -> list[int]:
    """Return the tokens of a model that generates ``pieces`` where nothing is forced."""
    limit = ThinkingLimit(budget, CLOSING)
    texts = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    tokens: list[int] = []
    while len(tokens) < len(texts) + len(CLOSING) and any(True for _ in texts[len(tokens) :]):
        forced = None if limit.over else limit.forced()
        if forced is None and not limit.over:
            limit.feed(Written(len(tokens), texts[len(tokens)]))
        tokens.append(len(tokens) if forced is None else forced)
    return tokens


OPENED = ThinkingBudget(2, "", "</think>", "\n</think>\n")
OPENS = ThinkingBudget(2, "<think>", "</think>", "\n</think>\n")


@pytest.mark.parametrize(
    ("budget", "pieces", "expected"),
    [
        (OPENED, ["a", "b", "c", "d", "e"], [0, 1, 900, 901, 4]),
        (OPENED, ["a", "</th", "ink>", "d", "e"], [0, 1, 900, 901, 4]),
        (OPENED, ["a", "</think>", "c", "d"], [0, 1, 2, 3]),
        (OPENS, ["<think>", "a", "b", "c", "d"], [0, 1, 2, 900, 901]),
        (OPENS, ["\n", "<th", "ink>x", "a", "b", "c", "d"], [0, 1, 2, 3, 4, 900, 901]),
        (OPENS, ["no", "<think>", "b", "c", "d"], [0, 1, 2, 3, 4]),
        # The end waits until a character is complete, but not for ever.
        (OPENED, ["a", b"\xe6", b"\x97", b"\xa5", "x", "y"], [0, 1, 2, 3, 900, 901]),
        (OPENED, ["a", b"\xe6", b"\xe6", b"\xe6", b"\xe6", "y", "z"], [0, 1, 2, 3, 4, 900, 901]),
    ],
)
def test_thinking_ends_when_its_budget_is_used_up(
    budget: ThinkingBudget, pieces: list[str | bytes], expected: list[int]
) -> None:
    assert think(budget, pieces) == expected


def test_a_budget_of_nothing_ends_opened_thinking_at_once() -> None:
    assert think(ThinkingBudget(0, "", "</think>", "</think>"), ["a", "b", "c"])[:2] == list(CLOSING)


COUNT = "1, 2, 3, 4, 5, 6,"


def run(runner: LlamaRunner, **fields: Any) -> Consumer:
    return Consumer(runner.generate(Job(COUNT, GREEDY, **fields))).ended()


def test_a_model_is_free_up_to_the_trigger_and_held_from_there(shared_smol: LlamaRunner) -> None:
    free = run(shared_smol, max_tokens=24).text
    trigger = free[7:9]
    held = run(shared_smol, lazy_grammar=LazyGrammar(f'root ::= "{trigger}" [a-f]{{5}} "!"', (trigger,)))
    assert held.reason is DoneReason.STOP
    before = free[: free.index(trigger)]
    assert held.text.startswith(before + trigger)
    assert held.text.endswith("!")
    assert len(held.text) == len(before + trigger) + 6


def test_a_trigger_that_never_comes_changes_nothing(shared_smol: LlamaRunner) -> None:
    lazy = LazyGrammar('root ::= "never"', ("never",))
    assert run(shared_smol, max_tokens=24, lazy_grammar=lazy).text == run(shared_smol, max_tokens=24).text


def test_a_lazy_grammar_that_is_invalid_or_refuses_what_follows_leaves_the_output_free(
    shared_smol: LlamaRunner,
) -> None:
    free = run(shared_smol, max_tokens=24).text
    for grammar in ("root ::= (", 'root ::= "other"'):
        lazy = LazyGrammar(grammar, (free[5:8],))
        assert run(shared_smol, max_tokens=24, lazy_grammar=lazy).text == free


@pytest.mark.parametrize("grammar", ["", "root ::= [^/]* [/] any\nany ::= [^\\x00]*"])
def test_a_real_model_ends_its_thinking_at_the_limit(shared_smol: LlamaRunner, grammar: str) -> None:
    free = run(shared_smol, max_tokens=5, grammar=grammar).text
    budget = ThinkingBudget(5, "", "/t", "\n/think\n")
    limited = run(shared_smol, max_tokens=24, thinking=budget, grammar=grammar).text
    assert limited.startswith(free + "\n/think\n")
    assert len(limited) > len(free + "\n/think\n")
    # Thinking that ends by itself is left alone.
    ends = ThinkingBudget(5, "", free[2:4], "\n/think\n")
    assert run(shared_smol, max_tokens=5, thinking=ends, grammar=grammar).text == free
