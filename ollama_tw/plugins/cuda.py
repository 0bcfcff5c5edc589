"""llama.cpp on NVIDIA GPUs."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("cuda", priority=100, libraries=("cuda",))
