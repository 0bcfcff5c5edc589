"""llama.cpp on whatever GPUs it finds, for the libraries that have no module of their own here."""

from ollama_tw.llama.plugin import LlamaBackend

backend = LlamaBackend("gpu", priority=70, libraries=None)
