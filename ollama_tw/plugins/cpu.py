"""llama.cpp on the CPU alone."""

from ollama_tw.llama.plugin import LlamaBackend

backend = LlamaBackend("cpu", priority=0, libraries=())
