"""llama.cpp on the GPUs that have Vulkan drivers."""

from ollama_tw.llama.plugin import LlamaBackend

backend = LlamaBackend("vulkan", priority=80, libraries=("vulkan",))
