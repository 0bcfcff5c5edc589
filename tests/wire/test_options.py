"""The table of options: what it is derived from, and what is derived from it."""

import dataclasses
from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.inference.planning import sampling
from ollama_tw.interfaces import LoadPlan, Sampling
from ollama_tw.wire.options import OPTIONS, Options, resolve

# Numbers that clients send and that cannot harm the engine have the effect that they have in Ollama.
AS_THE_LIMIT = {
    "temperature": (0, 1000),
    "top_k": (-1, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "presence_penalty": (-1000, 1000),
    "frequency_penalty": (-1000, 1000),
    "num_predict": (1 - 2**31, 2**31 - 1),
    "num_keep": (-1, 2**31 - 1),
    "num_gpu": (-1, 2**31 - 1),
    "num_thread": (0, 1024),
    "draft_num_predict": (0, 1024),
}


@pytest.mark.parametrize(("name", "limits"), AS_THE_LIMIT.items())
def test_harmless_numbers_beyond_the_bounds_are_the_limit(name: str, limits: tuple[float, float]) -> None:
    for value, expected in zip((-(2**70), 2**70), limits, strict=True):
        assert getattr(resolve({}, {name: value}), name) == expected
        assert getattr(resolve({name: float(value)}, {}), name) == expected


def test_different_large_seeds_stay_different() -> None:
    seeds = [resolve({}, {"seed": value}).seed for value in (2**63 + 5, 2**64 - 1, -(2**63) - 5, 1e300)]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_default_sampling_is_that_of_the_backend_contract() -> None:
    assert sampling(Options()) == Sampling()


def test_every_field_of_the_sampling_is_set_by_the_option_of_its_name() -> None:
    values = {field.name: OPTIONS[field.name].bounds[1] for field in dataclasses.fields(Sampling)}
    assert dataclasses.asdict(sampling(resolve({}, values))) == values


def test_options_set_fields_that_the_load_plan_has() -> None:
    fields = {field.name for field in dataclasses.fields(LoadPlan)}
    assert {row.plan_field for row in OPTIONS.values()} - {""} <= fields


@pytest.mark.parametrize(
    "name", [name for name, row in OPTIONS.items() if row.kind in ("integer", "float32")]
)
def test_bounds_are_inclusive(name: str) -> None:
    low, high = OPTIONS[name].bounds
    # The smallest context is larger than the smallest value that is accepted.
    expected = {low, high} if name != "num_ctx" else {4, high}
    assert {getattr(resolve({}, {name: value}), name) for value in (low, high)} == expected
    refused = [float("nan"), float("inf")]
    if name not in {*AS_THE_LIMIT, "seed"}:
        refused += [low - 1, high + 1]
    for value in refused:
        with pytest.raises(OllamaError) as caught:
            resolve({}, {name: value})
        assert caught.value.status == 400
        assert caught.value.message == f'option "{name}" must be between {low} and {high}'


def test_a_request_overrides_the_model_and_null_does_not() -> None:
    parameters: dict[str, Any] = {"seed": 1, "top_k": 2, "stop": ["a", "b"]}
    options = resolve(parameters, {"seed": 3, "top_k": None, "stop": ["c"], "mirostat": 1})
    assert (options.seed, options.top_k, options.stop) == (3, 2, ("c",))
    assert options.given == {"seed", "top_k", "stop"}


def test_numbers_for_integers_are_truncated() -> None:
    assert resolve({}, {"num_predict": 42.9}).num_predict == 42
    assert resolve({}, {"seed": -1.5}).seed == -1


def test_a_grammar_is_taken_from_a_request_only() -> None:
    assert resolve({"grammar": 'root ::= "a"'}, {}) == Options()
    assert resolve({}, {"grammar": 'root ::= "a"'}).grammar == 'root ::= "a"'


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_ctx": "1"}, 'option "num_ctx" must be of type integer'),
        ({"top_p": True}, 'option "top_p" must be of type float32'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"grammar": 5}, 'option "grammar" must be of type string'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
    ],
)
def test_wrong_types(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OllamaError) as caught:
        resolve({}, options)
    assert (caught.value.status, caught.value.message) == (400, text)
