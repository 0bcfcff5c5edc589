"""Answers as rendered Markdown on a terminal, while they arrive."""
