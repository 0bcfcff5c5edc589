"""Outbound HTTP: connections, TLS, proxies, address checks and response bodies."""
