"""The choice of tools: calls that a reply may or must make."""

from dataclasses import dataclass, replace

from ollama_tw.output.description import CallLayout, Description


@dataclass(frozen=True)
class ToolChoice:
    """Calls that a reply may make: if any, and how many."""

    required: tuple[str, ...] = ()
    """The reply must be calls of these tools; empty allows any reply."""
    parallel: bool = True
    """The reply may have several calls."""


ANY_REPLY = ToolChoice()


def with_layout(description: Description, choice: ToolChoice) -> Description:
    """Return the description of a reply by ``choice``: a model without a layout calls by a JSON object."""
    if not choice.required or description.calls is not None:
        return description
    return replace(description, calls=CallLayout(), turns=None)
