"""Plugin of the Ray backend."""

from ollama_tw_ray import RayBackend

backend = RayBackend()
