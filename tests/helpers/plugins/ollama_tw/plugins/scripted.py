"""Backend whose models reply to a few questions about the temperature in a city."""

from collections.abc import Iterable

from ollama_tw.testing.fake import FakeBackend

CALL = ['<tool_call>{"name": "get_temperature", ', '"arguments": {"city": "Oslo"}}', "</tool_call>"]
THOUGHTS = ["<think>", "Rome is ", "hot.", "</think>", "About ", "30 degrees."]


def reply(prompt: str) -> Iterable[str]:
    if "<|tool|>18" in prompt:
        return ["It is ", "18 degrees ", "in Oslo."]
    if '"get_temperature"' in prompt and "Oslo" in prompt:
        return ["I shall look. ", *CALL]
    if "Rome" in prompt:
        return THOUGHTS
    return ["Hel", "lo"]


backend = FakeBackend(reply, name="scripted")
