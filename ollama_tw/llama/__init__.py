"""The llama.cpp runner. Only this package imports llama_cpp."""
