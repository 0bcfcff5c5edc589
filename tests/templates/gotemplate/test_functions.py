import pytest

from ollama_tw.templates.gotemplate import TemplateError
from tests.templates.gotemplate.rendering import render

# The expectations were checked against Go 1.26.


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("eq 1 2 1", "true"),
        ("eq .Nope nil", "true"),
        ('eq .Nope ""', "false"),
        ("eq .Messages nil", "false"),
        ("eq (index .Messages 0) (index .Messages 0) ", "true"),
        ("ne .System `x`", "true"),
        ("lt `a` `b`", "true"),
        ("le 1.5 1.5", "true"),
        ("gt 1 2", "false"),
        ("ge `é` `z`", "true"),
        ("len `é`", "2"),
        ("len .Messages", "4"),
        ("slice `héllo` 1 3", "é"),
        ("slice `abc` 3", ""),
        ("len (slice .Messages 1 3)", "2"),
        ("index `a` 0", "97"),
        ("(index (index .Messages 2).ToolCalls 0).Function.Name", "f"),
        ("index (index (index .Messages 2).ToolCalls 0).Function.Arguments `n`", "1"),
        ("currentDate", "2026-03-01"),
        ("currentDate `2006`", "2026-03-01"),
        ("yesterdayDate", "2026-02-28"),
        ("toTypeScriptType 3", "any"),
    ],
)
def test_results(call: str, output: str) -> None:
    assert render(f"{{{{ {call} }}}}") == output


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("eq 1", "error calling eq: missing argument for comparison"),
        ("eq 1 `a`", "error calling eq: incompatible types for comparison: int and string"),
        ("eq 1 1.0", "error calling eq: incompatible types for comparison: int and float64"),
        ("eq .Messages .Messages", "error calling eq: non-comparable type"),
        ("lt true false", "error calling lt: invalid type for comparison"),
        ("lt .Messages 1", "error calling lt: invalid type for comparison"),
        ("len 3", "error calling len: len of type int"),
        ("len .Nope", "error calling len: len of nil pointer"),
        ("index .Messages 9", "error calling index: index out of range: 9"),
        ("index .Messages -1", "error calling index: index out of range: -1"),
        ("index .Messages `a`", "error calling index: cannot index slice/array with type string"),
        ("index nil 1", "error calling index: index of untyped nil"),
        ("index 1 1", "error calling index: can't index item of type int"),
        ("slice `abc` 2 1", "error calling slice: invalid slice index: 2 > 1"),
        ("slice `abc` 4", "error calling slice: index out of range: 4"),
        ("slice `abc` 0 1 2", "error calling slice: cannot 3-index slice a string"),
        ("slice 3", "error calling slice: can't slice item of type int"),
        ("call nil", "error calling call: call of nil"),
        ("call .System", "error calling call: non-function of type string"),
        ("currentDate 1", "expected string; found 1"),
    ],
)
def test_errors(call: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        render(f"{{{{ {call} }}}}")
    assert raised.value.message.partition(">: ")[2].startswith(complaint)
