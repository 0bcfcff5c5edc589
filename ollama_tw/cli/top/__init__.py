"""``ollama top``: what a server does, on a screen that is drawn again every second."""
