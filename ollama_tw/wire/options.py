"""The ``options`` of a request and the ``PARAMETER`` lines of a Modelfile: one table of all of them.

:class:`Options` is the table: each field names the option's type, default, bounds and meaning. The types of
Modelfile parameters, the fields of the load plan and docs/api/options.md are derived from it.

Names, types and defaults are Ollama's; the bounds are not. Source: ollama: api/types.go, Options.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, TypeVar

from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import LoadPlan, Sampling

T = TypeVar("T")

_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

MIN_CONTEXT = 4
"""Smallest context length of a loaded model; a smaller ``num_ctx`` is raised to it, as in Ollama."""

UNBOUNDED = (-math.inf, math.inf)

_OPTION = "option"


class Kind(StrEnum):
    """The type of an option, by the name that error messages give it."""

    INTEGER = "integer"
    FLOAT = "float32"
    BOOLEAN = "boolean"
    STRING = "string"
    STRINGS = "array"


class Beyond(Enum):
    """The treatment of a number out of the bounds of its option; the value is its description."""

    REFUSED = "refused"
    LIMIT = "as the limit"
    MODULO = "modulo 2^63"


@dataclass(frozen=True)
class Option:
    """One row of the table."""

    kind: Kind
    description: str
    bounds: tuple[float, float] = UNBOUNDED
    """Smallest and largest value of a number."""
    beyond: Beyond = Beyond.REFUSED
    """Refused if the value could harm the engine; otherwise it has the effect that it has in Ollama."""
    plan_field: str = ""
    """The field of :class:`~ollama_tw.interfaces.LoadPlan` that the option sets; "" for none."""
    automatic: int | None = None
    """The value with which a request leaves the choice to the engine, as if the option were absent."""
    documented_default: str = ""
    """Text in place of the default in the documentation."""
    request_only: bool = False
    """Valid in a request only, not as a parameter of a model; not one of Ollama's options."""


def option(
    default: T,
    kind: Kind,
    description: str,
    bounds: tuple[float, float] = UNBOUNDED,
    beyond: Beyond = Beyond.REFUSED,
    *,
    plan_field: str = "",
    automatic: int | None = None,
    documented_default: str = "",
    request_only: bool = False,
) -> T:
    """Return a dataclass field for the option; see :class:`Option`."""
    row = Option(kind, description, bounds, beyond, plan_field, automatic, documented_default, request_only)
    field: Any = dataclasses.field(default=default, metadata={_OPTION: row})
    result: T = field
    return result


@dataclass(frozen=True)
class Options:
    """Resolved options."""

    num_ctx: int = option(
        0,
        Kind.INTEGER,
        "Context length in tokens that the request may use. A longer context than the loaded model's "
        "loads the model again, with the next power of two if the memory allows; so does the default.",
        (0, _INT32),
        plan_field="context_length",
        documented_default="`OLLAMA_CONTEXT_LENGTH`",
    )
    num_batch: int = option(
        LoadPlan.batch,
        Kind.INTEGER,
        "Maximum number of tokens evaluated in one step.",
        (1, 1 << 16),
        plan_field="batch",
    )
    num_gpu: int = option(
        LoadPlan.gpu_layers,
        Kind.INTEGER,
        "Number of layers on GPUs; negative: as many as fit.",
        (-1, _INT32),
        Beyond.LIMIT,
        plan_field="gpu_layers",
        automatic=-1,
    )
    main_gpu: int | None = option(
        None,
        Kind.INTEGER,
        "Index of the GPU that holds what is not split.",
        (0, 1 << 10),
        plan_field="main_gpu",
        documented_default="the server's choice",
    )
    use_mmap: bool | None = option(
        LoadPlan.use_mmap,
        Kind.BOOLEAN,
        "Map the model file into memory instead of reading it.",
        plan_field="use_mmap",
        documented_default="the engine's choice",
    )
    num_thread: int = option(
        LoadPlan.threads,
        Kind.INTEGER,
        "Number of CPU threads; 0 and less: one for each physical core, or fewer beside other programs.",
        (0, 1 << 10),
        Beyond.LIMIT,
        plan_field="threads",
        automatic=0,
    )
    draft_num_predict: int | None = option(
        None,
        Kind.INTEGER,
        "Maximum number of drafted tokens that a step evaluates; 0: none.",
        (0, 1 << 10),
        Beyond.LIMIT,
        documented_default="the engine's choice; 0 with a `seed`",
    )
    num_keep: int = option(
        4,
        Kind.INTEGER,
        "Number of tokens at the beginning of the prompt that are kept when it is cut to the context; "
        "negative: all that fit.",
        (-1, _INT32),
        Beyond.LIMIT,
    )
    seed: int = option(
        Sampling.seed,
        Kind.INTEGER,
        "Seed of the random numbers; with a seed, tokens are not drafted unless `draft_num_predict` is set. "
        "-1: a new seed for each request.",
        (-_INT64, _INT64),
        Beyond.MODULO,
    )
    num_predict: int = option(
        -1,
        Kind.INTEGER,
        "Maximum number of tokens to generate. Negative, and 0 for a model whose Go template is in use: as "
        "many as the context holds.",
        (-_INT32, _INT32),
        Beyond.LIMIT,
    )
    top_k: int = option(
        Sampling.top_k,
        Kind.INTEGER,
        "Sample from this many of the likeliest tokens; 0 and less: from all.",
        (-1, _INT32),
        Beyond.LIMIT,
    )
    top_p: float = option(
        Sampling.top_p,
        Kind.FLOAT,
        "Sample from the likeliest tokens whose probabilities add up to this.",
        (0, 1),
        Beyond.LIMIT,
    )
    min_p: float = option(
        Sampling.min_p,
        Kind.FLOAT,
        "Minimum probability of a token, as a fraction of the likeliest token's.",
        (0, 1),
        Beyond.LIMIT,
    )
    typical_p: float = option(
        Sampling.typical_p,
        Kind.FLOAT,
        "Locally typical sampling: sample from the most typical tokens whose probabilities add up to this.",
        (0, 1),
        Beyond.LIMIT,
    )
    repeat_last_n: int = option(
        Sampling.repeat_last_n,
        Kind.INTEGER,
        "Number of last tokens to which the penalties apply; 0: none, -1: the whole context.",
        (-1, _INT32),
    )
    temperature: float = option(
        Sampling.temperature,
        Kind.FLOAT,
        "Randomness of the output; 0 always takes the likeliest token.",
        (0, 1000),
        Beyond.LIMIT,
    )
    repeat_penalty: float = option(
        Sampling.repeat_penalty,
        Kind.FLOAT,
        "Factor against repeated tokens; 1: none.",
        (0, 1000),
    )
    presence_penalty: float = option(
        Sampling.presence_penalty,
        Kind.FLOAT,
        "Amount subtracted from the logit of each token that occurred.",
        (-1000, 1000),
        Beyond.LIMIT,
    )
    frequency_penalty: float = option(
        Sampling.frequency_penalty,
        Kind.FLOAT,
        "Amount subtracted from the logit of a token for each time that it occurred.",
        (-1000, 1000),
        Beyond.LIMIT,
    )
    stop: tuple[str, ...] = option(
        (),
        Kind.STRINGS,
        "Texts before which the output ends.",
        documented_default="none",
    )
    think_budget: int = option(
        -1,
        Kind.INTEGER,
        "Maximum number of tokens of the thinking, after which the answer begins; -1: no limit.",
        (-1, _INT32),
        request_only=True,
    )
    grammar: str = option(
        "",
        Kind.STRING,
        "GBNF grammar that the output matches, instead of `format`.",
        documented_default="none",
        request_only=True,
    )
    given: frozenset[str] = frozenset()
    """Names of the options that the model or the request sets."""
    given_num_ctx: int | None = None
    """The ``num_ctx`` that the model or the request sets, before it is raised to :data:`MIN_CONTEXT`."""


OPTIONS: Mapping[str, Option] = {
    field.name: field.metadata[_OPTION] for field in dataclasses.fields(Options) if _OPTION in field.metadata
}
"""All options by name."""


def resolve(parameters: Mapping[str, Any], requested: Mapping[str, Any]) -> Options:
    """Return the options of a request for a model with ``parameters``, which ``requested`` overrides.

    Unknown names are ignored, as is None. Raises :class:`OllamaError` 400 with Ollama's text for a wrong
    type, and with the bounds for a value out of range.
    """
    values: dict[str, Any] = {}
    for source, is_request in ((parameters, False), (requested, True)):
        for name, value in source.items():
            row = OPTIONS.get(name)
            if row is not None and value is not None and (is_request or not row.request_only):
                values[name] = _converted(name, row, value)
    given = frozenset(values)
    num_ctx = values.get("num_ctx")
    if num_ctx is not None:
        values["num_ctx"] = max(num_ctx, MIN_CONTEXT)
    return Options(**values, given=given, given_num_ctx=num_ctx)


def _converted(name: str, row: Option, value: Any) -> Any:
    wrong_type = OllamaError(400, f'option "{name}" must be of type {row.kind}')
    if row.kind in (Kind.INTEGER, Kind.FLOAT):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type
        return _number(name, row, value)
    if row.kind is Kind.STRINGS:
        if not isinstance(value, list):
            raise wrong_type
        if not all(isinstance(item, str) for item in value):
            raise OllamaError(400, f'option "{name}" must be of an array of strings')
        return tuple(value)
    if not isinstance(value, bool if row.kind is Kind.BOOLEAN else str):
        raise wrong_type
    return value


def _number(name: str, row: Option, value: float) -> float:
    """Return ``value`` within the bounds of ``row``, truncated to an integer if it is one of integers."""
    low, high = row.bounds
    if math.isfinite(value):
        if row.kind is Kind.INTEGER:
            value = int(value)
        if row.beyond is Beyond.LIMIT:
            value = min(max(value, low), high)
        elif row.beyond is Beyond.MODULO and not low <= value <= high:
            value %= 2**63
    # Written so that NaN, which compares false with everything, is refused too.
    if not low <= value <= high:
        raise OllamaError(400, f'option "{name}" must be between {low} and {high}')
    return value if row.kind is Kind.INTEGER else float(value)
