"""The chat formats that have a name, and how the chat template of a file is recognised as one of them.

``formats`` is the table of the formats; ``writing`` turns one into the text of a Go template;
``detection`` finds the format of a Jinja template by what it writes.
"""

from ollama_tw.templates.known_formats.detection import NamedTemplate, detect

__all__ = ["NamedTemplate", "detect"]
