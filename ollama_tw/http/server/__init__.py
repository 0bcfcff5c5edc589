"""Web server core: site, channel, CORS and Host checks, streaming, error replies."""
