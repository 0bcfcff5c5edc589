"""Whether a reply may or must call tools."""

from dataclasses import dataclass, replace

from ollama_tw.output.description import CallLayout, Description


@dataclass(frozen=True)
class ToolChoice:
    """Whether and how often a reply may call."""

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
