"""Named chat formats, and detection of the format of a Jinja chat template.

``formats`` is the table of the formats; ``writing`` writes a Go template for a format; ``detection``
finds the format of a Jinja template by its output.
"""

from ollama_tw.templates.known_formats.detection import NamedTemplate, detect

__all__ = ["NamedTemplate", "detect"]
