from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.prompt.history import cut_history, kept_tokens, middle_cut, too_long
from ollama_tw.templates.budget import TemplateError
from ollama_tw.wire.native import Message


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def system(text: str) -> Message:
    return Message("system", text)


def render(messages: Sequence[Message]) -> str:
    """Return one role letter and the text for each message."""
    return "".join(f"{message.role[0]}{message.content}" for message in messages)


class Counter:
    """Counts one token for each character; ``calls`` is the number of counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        return len(text)


def test_all_of_a_conversation_that_fits() -> None:
    count = Counter()
    result = cut_history([user("aaa"), assistant("bbb")], 9, render, count)
    assert (result.prompt, result.dropped_messages, result.dropped_tokens) == ("uaaaabbb", 0, 0)
    assert result.messages == (user("aaa"), assistant("bbb"))
    assert count.calls == 0  # 8 bytes cannot be more than 9 tokens


def test_exactly_the_limit_fits() -> None:
    assert cut_history([user("aaa"), assistant("bbb")], 8, render, len).dropped_messages == 0
    assert cut_history([user("aaa"), assistant("bbb")], 7, render, len).prompt == "abbb"


def test_messages_go_singly_from_the_front_and_system_messages_move_there() -> None:
    messages = [user("1111"), system("S"), assistant("2222"), user("3"), system("T"), user("4")]
    assert cut_history(messages, 18, render, len).prompt == "u1111sSa2222u3sTu4"
    assert cut_history(messages, 17, render, len).prompt == "sSa2222u3sTu4"
    assert cut_history(messages, 12, render, len).prompt == "sSu3sTu4"
    assert cut_history(messages, 7, render, len).prompt == "sSsTu4"


def test_the_last_message_and_the_system_messages_stay_however_long() -> None:
    result = cut_history([system("SSSS"), user("1"), user("222222")], 3, render, len)
    assert result.prompt == "sSSSSu222222"
    assert result.messages == (system("SSSS"), user("222222"))
    assert (result.dropped_messages, result.dropped_tokens) == (1, 2)
    assert cut_history([user("222222")], 3, render, len).prompt == "u222222"
    assert cut_history([user("1"), system("SSSS")], 3, render, len).prompt == "sSSSS"


def test_the_number_of_dropped_messages_and_tokens() -> None:
    result = cut_history([user("11111"), user("22222"), user("3")], 4, render, len)
    assert (result.prompt, result.dropped_messages, result.dropped_tokens) == ("u3", 2, 12)


def test_images_count_for_a_model_with_a_projector_only() -> None:
    messages = [Message("user", "1", images=[b"a", b"b"]), Message("user", "2", images=[b"c"])]
    assert cut_history(messages, 1000, render, len).dropped_messages == 0
    result = cut_history(messages, 1000, render, len, image_tokens=768)
    assert (result.prompt, result.dropped_tokens) == ("u2", 1538)
    assert cut_history(messages, 2308, render, len, image_tokens=768).dropped_messages == 0
    assert cut_history(messages, 2307, render, len, image_tokens=768).dropped_messages == 1


def test_a_long_history_is_counted_a_few_times_only() -> None:
    count = Counter()
    result = cut_history([user("x" * 9)] * 3000, 12340, render, count)
    assert len(result.messages) == 1234
    assert count.calls <= 28


def test_candidates_that_a_template_rejects_are_skipped() -> None:
    def strict(messages: Sequence[Message]) -> str:
        if messages[0].role != "user":
            raise TemplateError("users begin")
        return render(messages)

    messages = [user("11"), assistant("22"), user("33"), assistant("44"), user("55")]
    assert cut_history(messages, 14, strict, len).prompt == "u33a44u55"
    assert cut_history(messages, 8, strict, len).prompt == "u55"
    with pytest.raises(TemplateError, match="users begin"):
        cut_history(messages[1:], 99, strict, len)


def test_candidates_are_tried_in_order_if_counts_do_not_fall() -> None:
    costs = {"uaubucudueuf": 20, "ubucudueuf": 9, "ucudueuf": 30, "udueuf": 40, "ueuf": 8, "uf": 5}
    result = cut_history([user(letter) for letter in "abcdef"], 10, render, costs.__getitem__)
    assert result.prompt == "ubucudueuf"


roles = st.sampled_from(["user", "assistant", "system", "tool"])
conversations = st.lists(st.builds(Message, roles, st.text("ab", max_size=12)), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(conversations, st.integers(1, 120))
def test_the_result_equals_that_of_a_linear_search(messages: list[Message], limit: int) -> None:
    expected: list[Message] = []
    for i in range(len(messages)):
        skipped = [message for message in messages[:i] if message.role == "system"]
        expected = skipped + messages[i:]
        if len(render(expected)) <= limit:
            break
    result = cut_history(messages, limit, render, len)
    assert list(result.messages) == expected
    assert result.prompt == render(expected)
    assert result.dropped_tokens == len(render(messages)) - len(render(expected))


# The middle cut


@pytest.mark.parametrize(
    ("length", "keep", "context", "expected"),
    [
        (7, 0, 8, [0, 1, 2, 3, 4, 5, 6]),
        (8, 0, 8, [4, 5, 6, 7]),
        (20, 0, 8, [16, 17, 18, 19]),
        (20, 3, 8, [0, 1, 2, 17, 18, 19]),  # 8 - (5 // 2) = 6
        (20, 4, 8, [0, 1, 2, 3, 18, 19]),
        (20, 7, 8, [0, 1, 2, 3, 4, 5, 6]),  # 8 - max(1 // 2, 1) = 7
        (3, 0, 1, []),
    ],
)
def test_middle_cut(length: int, keep: int, context: int, expected: list[int]) -> None:
    assert middle_cut(range(length), keep, context) == expected


@pytest.mark.parametrize(
    ("keep", "adds_bos", "expected"),
    [(0, False, 0), (0, True, 1), (4, True, 5), (6, True, 7), (7, True, 7), (99, False, 7), (-1, True, 7)],
)
def test_kept_tokens(keep: int, adds_bos: bool, expected: int) -> None:
    assert kept_tokens(keep, 8, adds_bos=adds_bos) == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(-1, 100), st.integers(1, 64), st.booleans())
def test_a_middle_cut_is_shorter_than_the_context_and_keeps_both_ends(
    length: int, keep: int, context: int, adds_bos: bool
) -> None:
    tokens = list(range(length))
    front = kept_tokens(keep, context, adds_bos=adds_bos)
    cut = middle_cut(tokens, front, context)
    assert len(cut) <= max(context - 1, 0)
    assert cut[:front] == tokens[:front]
    assert cut == sorted(set(cut))
    if length >= context:
        assert len(cut) == context - max((context - front) // 2, 1)
        assert cut[front:] == tokens[length - len(cut) + front :]


def test_a_prompt_that_may_not_be_cut_names_both_lengths() -> None:
    error = too_long(5000, 2048)
    assert error.status == 400
    assert error.message == (
        "the prompt has 5000 tokens, which exceeds the available context size of 2048 tokens; "
        "shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH"
    )
