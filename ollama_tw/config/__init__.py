"""Settings of the server: environment variables, twistd options, host parsing."""
