"""Go's text forms: durations, quoting, numbers, ``fmt`` and ``encoding/json``. Pure."""
