"""What the server finds."""

from ollama_tw_upstream import UpstreamBackend

backend = UpstreamBackend()
