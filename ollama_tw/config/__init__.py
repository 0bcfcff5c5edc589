"""Settings of the server: environment variables, options of twistd, host parsing."""
