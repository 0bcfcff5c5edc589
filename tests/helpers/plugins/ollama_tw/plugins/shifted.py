"""Backend ``paced`` with a token at the beginning of prompts."""

from ollama_tw.plugins.paced import reply
from ollama_tw.testing.fake import FakeBackend

backend = FakeBackend(reply, name="shifted", bos_text="#")
