"""The server's ed25519 key and signatures made with it."""
