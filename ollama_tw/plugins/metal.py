"""llama.cpp on Apple GPUs."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("metal", priority=90, libraries=("mtl", "metal"))
