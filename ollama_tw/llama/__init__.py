"""The llama.cpp runner; the only room that imports llama_cpp."""
