"""Routes of Ollama's own API, one module for each subject."""
