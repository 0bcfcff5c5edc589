"""The OpenAI API.

Source: ollama: openai/openai.go; https://platform.openai.com/docs/api-reference.
"""
