"""HTTP and WebSocket endpoints: decode the request, call a service, stream the response."""
