"""The Anthropic API.

Source: ollama: anthropic/anthropic.go.
"""
