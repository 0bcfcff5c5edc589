"""Load generators that compare servers side by side; not part of the installed package."""
