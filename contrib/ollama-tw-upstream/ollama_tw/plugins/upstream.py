"""Plugin of the upstream backend."""

from ollama_tw_upstream import UpstreamBackend

backend = UpstreamBackend()
