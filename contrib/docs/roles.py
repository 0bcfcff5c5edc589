"""Extension of Griffe: converts reStructuredText in docstrings to the Markdown of the site.

The docstrings use roles (``:class:`Job```), literal blocks (``::``) and nothing else that Markdown
writes differently.
"""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")
_LITERAL_BLOCK = re.compile(r"::$", re.M)


def to_markdown(text: str) -> str:
    """Return the docstring ``text`` as Markdown: roles as code, the colons of literal blocks as one."""
    return _LITERAL_BLOCK.sub(":", _ROLE.sub(r"`\1`", text))


class Roles(Extension):
    """Converts the docstring of every object."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Convert the docstring of ``obj``, if it has one."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
