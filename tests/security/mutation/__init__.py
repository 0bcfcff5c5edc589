"""Mutated GGUF files: operators, seeds, and trials with the real llama.cpp in child processes."""
