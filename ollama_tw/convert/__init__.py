"""Conversion of safetensors to GGUF: models of the Llama, Qwen and BERT families, LoRA adapters."""

from ollama_tw.convert.adapter import convert_adapter
from ollama_tw.convert.model import convert_model

__all__ = ["convert_adapter", "convert_model"]
