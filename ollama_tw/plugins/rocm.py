"""llama.cpp on AMD GPUs."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("rocm", priority=95, libraries=("rocm", "hip"))
