"""Context length of a model that is loaded again because a conversation has grown.

Without it, a client that requests a little more with each turn would reload the model each time. Pure.
"""

from collections.abc import Callable
from dataclasses import replace

from ollama_tw.engine.memory import DoesNotFit, ModelShape
from ollama_tw.interfaces import LoadPlan


def with_room_to_grow(shape: ModelShape, plan: LoadPlan, place: Callable[[LoadPlan], LoadPlan]) -> LoadPlan:
    """Return ``plan`` after ``place``, its context rounded up to a power of two if the memory allows.

    The context is at most the trained one, and unchanged if the longer one would move layers off the GPUs.
    ``place`` distributes the layers and raises :class:`DoesNotFit`, as does this function.
    """
    placed = place(plan)
    longer = min(1 << (plan.context_length - 1).bit_length(), shape.trained_context)
    if longer <= plan.context_length:
        return placed
    try:
        grown = place(replace(plan, context_length=longer))
    except DoesNotFit:
        return placed
    return grown if grown.gpu_layers >= placed.gpu_layers else placed
