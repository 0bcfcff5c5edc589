"""llama.cpp on Apple GPUs."""

from ollama_tw.llama.plugin import LlamaBackend

backend = LlamaBackend("metal", priority=90, libraries=("mtl", "metal"))
