"""Request and reply types of the native API, and the decoding of request bodies."""
