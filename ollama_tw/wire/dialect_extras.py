"""Options of a run that only the OpenAI and Anthropic APIs can set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestExtras:
    """Options that accompany a native request, outside its body."""

    must_call: tuple[str, ...] = ()
    """The reply must be calls of these tools; empty allows any reply."""
    parallel_calls: bool = True
    """A reply may have several calls."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids with the values that are added to their logits before sampling."""
    prompt_tokens: tuple[int, ...] = ()
    """The prompt of a generate request as tokens, which are evaluated unchanged."""
    preserved: tuple[str, ...] = ()
    """Texts of special tokens that are part of the output, beside those that are parsed."""
    drops_thinking: bool = False
    """True if a request to think is ignored for models that cannot, instead of refused."""
    strict_format: bool = False
    """True if a schema of the output that cannot be enforced is refused."""
    shows_stop: bool = False
    """True if the last record has the stop string that ended the output."""
    streams_calls: bool = False
    """True if a stream has the arguments of calls in parts."""


NO_EXTRAS = RequestExtras()
