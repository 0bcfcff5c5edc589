"""What a request means, and what comes back: one pipeline for every door."""
