"""The Responses API. Responses are not stored.

Source: ollama: openai/responses.go.
"""
