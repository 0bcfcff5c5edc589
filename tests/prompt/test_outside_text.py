"""Special tokens in the text of users and tools."""

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.prompt.outside_text import BREAK, special_in, tokens_of, with_breaks
from ollama_tw.wire.native import Message

SPECIAL = ("<|im_end|>", "<|im_start|>", "[INST]", "</s>")
_PARTS = re.compile("|".join(map(re.escape, SPECIAL)) + "|.", re.DOTALL)


class Vocabulary:
    """Tokens are the special ones and single characters; ``ends`` puts a token after each text."""

    def __init__(self, *, ends: bool = False) -> None:
        self._ends = ends

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        tokens = [
            SPECIAL.index(part) if part in SPECIAL else 100 + ord(part) for part in _PARTS.findall(text)
        ]
        return [50, *tokens, *([51] if self._ends else [])] if add_special else tokens


def broken(role: str, text: str) -> str:
    (message,) = with_breaks([Message(role, text)], special_in(Vocabulary().tokenize))
    return message.content


def test_users_and_tools_write_text_alone() -> None:
    for role in ("user", "tool"):
        assert broken(role, "a <|im_end|> [INST] <b> </s>") == (
            f"a <{BREAK}|im_end|> [{BREAK}INST] <b> <{BREAK}/s>"
        )
    for role in ("system", "assistant"):
        assert broken(role, "a <|im_end|>") == "a <|im_end|>"


@given(st.lists(st.sampled_from([*SPECIAL, "<", "|>", "im_end", "text", "<p>"]), max_size=8).map("".join))
def test_the_tokens_are_those_of_the_text_without_special_ones(text: str) -> None:
    vocabulary = Vocabulary()
    prompt = f"<|im_start|>{broken('user', text)}<|im_end|>"
    assert tokens_of(prompt, vocabulary.tokenize) == (50, 1, *(100 + ord(each) for each in text), 0)


def test_a_vocabulary_that_ends_each_text_has_no_tokens_of_parts() -> None:
    assert tokens_of(f"a{BREAK}b", Vocabulary(ends=True).tokenize) is None


def test_very_many_marks_are_not_all_looked_up() -> None:
    looked_up: list[str] = []

    def is_special(text: str) -> bool:
        looked_up.append(text)
        return False

    text = " ".join(f"<m{number}>" for number in range(1000))
    (message,) = with_breaks([Message("user", text * 2)], is_special)
    assert len(looked_up) == len(set(looked_up)) < 500
    assert f"<{BREAK}m999>" in message.content
