"""Interpretation of instructions as a create request."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.library.modelfile.parser import Instruction, ModelfileError, parse_modelfile
from ollama_tw.library.modelfile.recipe import Recipe, read_recipe


def recipe(text: str) -> Recipe:
    return read_recipe(parse_modelfile(f"FROM x\n{text}"))


def fault(text: str) -> str:
    with pytest.raises(ModelfileError) as caught:
        recipe(text)
    return str(caught.value)


def test_every_instruction() -> None:
    found = recipe(
        "FROM y\nADAPTER a\nADAPTER b\nDRAFT d\n"
        "TEMPLATE one\nTEMPLATE two\nSYSTEM kind\nRENDERER r\nPARSER p\n"
        "LICENSE MIT\nLICENSE Apache\nREQUIRES v0.14.0\n"
        "MESSAGE user hi: there\nMESSAGE assistant \n"
    )
    assert (found.bases, found.adapters, found.drafts) == (("x", "y"), ("a", "b"), ("d",))
    assert found.warnings == ()
    assert found.fields() == {
        "template": "two",
        "system": "kind",
        "renderer": "r",
        "parser": "p",
        "requires": "0.14.0",
        "license": ["MIT", "Apache"],
        "messages": [{"role": "user", "content": "hi: there"}, {"role": "assistant", "content": ""}],
    }


def test_nothing_but_from() -> None:
    assert recipe("").fields() == {}


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("num_ctx", "4096", 4096),
        ("seed", "-1", -1),
        ("seed", "+7", 7),
        ("num_ctx", "1.048576e+06", 1048576),
        ("num_ctx", "1e+06", 1000000),
        ("temperature", "0.7", 0.7),
        ("temperature", "1", 1.0),
        ("temperature", ".5", 0.5),
        ("top_p", "0.123456789", 0.12345679),
        ("min_p", "1e-50", 0.0),
        ("repeat_penalty", "3.4028234663852886e38", 3.4028235e38),
        ("use_mmap", "T", True),
        ("use_mmap", "0", False),
        ("stop", "<|end|>", ["<|end|>"]),
    ],
)
def test_types_of_parameters(key: str, text: str, expected: Any) -> None:
    parameters = recipe(f"PARAMETER {key} {text}").parameters
    assert parameters == {key: expected}
    assert type(parameters[key]) is type(expected)


def test_repeated_parameters() -> None:
    found = recipe("PARAMETER stop a\nPARAMETER top_k 1\nPARAMETER stop b\nPARAMETER top_k 2")
    assert found.parameters == {"stop": ["a", "b"], "top_k": 2}


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("num_ctx", "big", "invalid int value [big]"),
        ("num_ctx", "1.5", "invalid int value [1.5]"),
        ("num_ctx", "9223372036854775808", "invalid int value [9223372036854775808]"),
        ("num_ctx", "1e300", "invalid int value [1e300]"),
        ("num_ctx", "1_0", "invalid int value [1_0]"),
        ("num_ctx", "٣", "invalid int value [٣]"),
        ("temperature", "hot", "invalid float value [hot]"),
        ("temperature", "nan", "invalid float value [nan]"),
        ("temperature", "1e39", "invalid float value [1e39]"),
        ("temperature", "1e999", "invalid float value [1e999]"),
        ("use_mmap", "yes", "invalid bool value [yes]"),
        ("num_gqa", "8", "unknown parameter 'num_gqa'"),
        ("numa", "true", "unknown parameter 'numa'"),
        ("tfs_z", "1", "unknown parameter 'tfs_z'"),
        ("Temperature", "1", "unknown parameter 'Temperature'"),
        ("", "temperature 1", "unknown parameter ''"),
    ],
)
def test_errors_of_parameters(key: str, text: str, expected: str) -> None:
    assert fault(f"PARAMETER {key} {text}") == expected


def test_a_very_long_number_is_rejected() -> None:
    assert fault(f"PARAMETER num_ctx {'9' * 1_000_000}").startswith("invalid int value [999")


def test_deprecated_parameters_only_warn() -> None:
    found = recipe("PARAMETER mirostat 1\nPARAMETER f16_kv whatever")
    assert found.parameters == {}
    assert found.warnings == (
        "warning: parameter mirostat is deprecated",
        "warning: parameter f16_kv is deprecated",
    )


@pytest.mark.parametrize("version", ["0.14.0", "v1", "1.2", "1.0.0-rc.1", "1.2.3-a-b+build.01", "0.0.0"])
def test_versions(version: str) -> None:
    assert recipe(f"REQUIRES {version}").fields() == {"requires": version.removeprefix("v")}


@pytest.mark.parametrize(
    "version",
    [
        "",
        "latest",
        "01.2.3",
        "1.2.3.4",
        "1.2-rc",
        "1.2.3-",
        "1.2.3-01",
        "vv1",
        "1.2.3+",
        "1.",
        "1.0.0-" + "a" * 300,
    ],
)
def test_invalid_versions(version: str) -> None:
    assert fault(f"REQUIRES {version}") == "requires must be a valid semver (e.g. 0.14.0)"


def test_instructions_given_as_parameters() -> None:
    found = recipe("PARAMETER model y\nPARAMETER license MIT\nPARAMETER message user: hi\n")
    assert found.bases == ("x", "y")
    assert found.fields() == {"license": ["MIT"], "messages": [{"role": "user", "content": "hi"}]}


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(
            Instruction,
            st.sampled_from(("model", "num_ctx", "top_p", "use_mmap", "stop", "requires", "message", "x")),
            st.text() | st.floats().map(str) | st.integers().map(str),
        )
    )
)
def test_any_instructions_give_a_recipe_or_an_error(commands: list[Instruction]) -> None:
    try:
        read_recipe(commands)
    except ModelfileError:
        pass
