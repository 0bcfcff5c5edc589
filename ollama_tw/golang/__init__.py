"""Go's text forms: durations, JSON, quoting, shortest floats. Pure."""
