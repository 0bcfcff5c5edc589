"""llama.cpp on any GPU, for the ggml backends without a module of their own here."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("gpu", priority=70, libraries=None)
