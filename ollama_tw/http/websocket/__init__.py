"""WebSocket endpoint: connection, frames, compression."""
