"""Models that other servers run: what is asked of them, and how."""
