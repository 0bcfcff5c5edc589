"""llama.cpp on GPUs with Vulkan drivers."""

from ollama_tw.llama.backend import LlamaBackend

backend = LlamaBackend("vulkan", priority=80, libraries=("vulkan",))
