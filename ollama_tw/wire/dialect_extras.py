"""What the foreign APIs can ask of a run and the native API cannot."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestExtras:
    """Goes beside a native request, never in its body."""

    must_call: tuple[str, ...] = ()
    """The reply has to be a call of one of these tools; empty leaves the model free."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """What is added to the logits of tokens before any of them is chosen."""
    prompt_tokens: tuple[int, ...] = ()
    """The prompt of a generate request as tokens, which the model sees as they are."""
    drops_thinking: bool = False
    """Whether a model that cannot think answers without, where it is asked to think."""


FREE = RequestExtras()
