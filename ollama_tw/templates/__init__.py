"""Chat templates: Jinja in its sandbox, Go templates, known formats. Pure."""
