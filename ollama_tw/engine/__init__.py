"""Which models are loaded, who waits, and the life of one loaded model."""
