"""From messages to prompt text: templates and history. Pure: no I/O, no Twisted."""
