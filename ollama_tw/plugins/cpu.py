"""llama.cpp on the CPU alone."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("cpu", priority=0, libraries=())
