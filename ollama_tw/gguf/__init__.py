"""GGUF files: reader, writer, tensor types, validation. Blocking, without Twisted."""
