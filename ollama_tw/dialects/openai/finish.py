"""``finish_reason``, of which OpenAI's clients accept a few values only.

Source: https://platform.openai.com/docs/api-reference/chat/object; ollama: openai/openai.go,
ToChatCompletion.
"""

from ollama_tw.wire.native import Record

_CUT = frozenset({"length", "repetition"})


def finish_reason(record: Record, *, called: bool = False) -> str | None:
    """Return the reason for ``record``, None if it is not the last one; ``called`` if the reply has calls."""
    reason = record.done_reason or None
    if reason is None:
        return None
    if reason in _CUT:
        return "length"
    # A request without a prompt only loads the model ("load").
    return "tool_calls" if called and reason == "stop" else "stop"
