"""The server as an operating-system process: listening, TLS, systemd, logs."""
