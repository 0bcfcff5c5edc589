"""Orders of a conversation for templates that insist on one.

Some templates refuse a system message that is not the first one, or two messages of one role in a row. The
texts of such a conversation are joined by a blank line; nothing is left out.
"""

from collections.abc import Callable, Iterator, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from ollama_tw.wire.native import Message

_SYSTEM = ("system", "developer")


def other_orders(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield the orders to try after a refusal, those first that change least; all differ."""
    tried = [list(messages)]
    steady = _joined(messages, _SYSTEM)
    for moved in (steady, _to_the_first(steady), _as_user_text(steady)):
        joined = _joined(moved, ("user", "assistant", *_SYSTEM))
        for order in (moved, joined, _in_results(joined)):
            if order not in tried:
                tried.append(order)
                yield order


def _together(first: Message, second: Message, role: str) -> Message:
    text = "\n\n".join(text for text in (first.content, second.content) if text)
    thoughts = [message.thinking for message in (first, second) if message.thinking is not UNSET]
    thinking = "\n\n".join(filter(None, thoughts))
    return replace(first, role=role, content=text, thinking=thinking or UNSET, tool_calls=second.tool_calls)


def _merged(messages: Sequence[Message], can_join: Callable[[Message, Message], bool]) -> list[Message]:
    """Return the messages, each put into the one before it where ``can_join`` allows it."""
    result: list[Message] = []
    for message in messages:
        if result and can_join(result[-1], message):
            result[-1] = _together(result[-1], message, result[-1].role)
        else:
            result.append(message)
    return result


def _joined(messages: Sequence[Message], roles: Sequence[str]) -> list[Message]:
    """Join neighbours of one role; calls end a message, since their results follow."""
    return _merged(
        messages,
        lambda first, second: (
            first.role in roles
            and (first.role == second.role or {first.role, second.role} <= set(_SYSTEM))
            and not (first.tool_calls is not UNSET and first.tool_calls)
        ),
    )


def _to_the_first(messages: Sequence[Message]) -> list[Message]:
    """Join the system texts of the whole conversation at its beginning."""
    system = [message for message in messages if message.role in _SYSTEM]
    others = [message for message in messages if message.role not in _SYSTEM]
    return [*_joined(system, _SYSTEM), *others]


def _as_user_text(messages: Sequence[Message]) -> list[Message]:
    """Make user messages of the system messages that are not the first message."""
    return [
        replace(message, role="user") if i and message.role in _SYSTEM else message
        for i, message in enumerate(messages)
    ]


def _in_results(messages: Sequence[Message]) -> list[Message]:
    """Merge a user's message that follows results of calls into the last result."""
    return _merged(messages, lambda first, second: first.role == "tool" and second.role == "user")
