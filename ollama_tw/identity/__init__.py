"""The ed25519 key of this server and the requests that it signs."""
