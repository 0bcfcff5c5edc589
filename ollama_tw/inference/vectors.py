"""Arithmetic on embeddings in float32, as Ollama's. Pure.

Imports numpy and orjson: import it in the functions that embed, so that the server starts without.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import orjson

# Vectors with a smaller norm are not normalised: they are zero but for rounding.
_MIN_NORM = 1e-12


def all_finite(vectors: Iterable[Sequence[float]]) -> bool:
    """Return whether no component is infinite or not a number."""
    return all(bool(np.isfinite(vector).all()) for vector in vectors)


def unit_vector(vector: Sequence[float], dimensions: int) -> list[float]:
    """Return ``vector`` cut to ``dimensions``, if it has more, and normalised, in float32."""
    values = _normalised(np.asarray(vector, dtype=np.float32))
    if 0 < dimensions < len(values):
        values = _normalised(values[:dimensions])
    # The shortest decimals that are these float32, as Go prints them: orjson writes them so.
    found: list[float] = orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))
    return found


def unit_vector_widened(vector: Sequence[float]) -> list[float]:
    """Return ``vector`` normalised in float32, with each component as the float64 of the same value."""
    return _normalised(np.asarray(vector, dtype=np.float32)).astype(np.float64).tolist()


def _normalised(
    values: "np.ndarray[tuple[int], np.dtype[np.float32]]",
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    norm = max(float(np.sqrt(np.square(values, dtype=np.float64).sum())), _MIN_NORM)
    return (values / norm).astype(np.float32)
