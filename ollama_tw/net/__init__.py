"""Outbound HTTP: connections, TLS, proxies, addresses, redirects."""
