"""The Responses API.

Source: ollama: openai/responses.go.
"""
