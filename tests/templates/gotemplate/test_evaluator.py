import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.templates.gotemplate import TemplateError
from tests.templates.gotemplate.rendering import render

# The expectations were checked against Go 1.26 executing the same template.


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x = 3 }}{{ $x }}{{ end }}{{ $x }}", "31"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ with $x := .System }}{{ . }}{{ $x }}{{ else }}none{{ end }}", "Be kind.Be kind."),
        ("{{ with .Nope }}a{{ else with .System }}{{ . }}{{ else }}c{{ end }}", "Be kind."),
        ("{{ if .Nope }}a{{ else if .System }}b{{ else }}c{{ end }}", "b"),
        ("{{ range $i, $x := slice .Messages 1 3 }}{{ $i }}{{ $x.Role }} {{ end }}", "0user 1assistant "),
        ("{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}", "01201"),
        ("{{ range .Nope }}a{{ else }}b{{ end }}{{ range 0 }}a{{ else }}c{{ end }}", "bc"),
        ("{{ range 9 }}{{ if eq . 2 }}{{ continue }}{{ end }}{{ . }}{{ end }}", "01345678"),
        ("{{ range 9 }}{{ if eq . 4 }}{{ break }}{{ end }}{{ . }}{{ end }}", "0123"),
        ("{{ range 2 }}{{ range 5 }}{{ if eq . 1 }}{{ break }}{{ end }}x{{ end }}y{{ end }}", "xyxy"),
        ("{{ $i := 9 }}{{ range $i = 3 }}{{ end }}{{ $i }}", "2"),
        ('{{ define "t" }}[{{ . }}{{ $ }}]{{ end }}{{ template "t" 1 }}', "[11]"),
        ('{{ block "b" 2 }}({{ . }}){{ end }}{{ template "b" 3 }}', "(2)(3)"),
        ("{{ 1 | printf `%d-%d` 2 }}", "2-1"),
        ("{{ (index .Messages 1).Role }}", "user"),
        ("{{ .Nope }}|{{ .Messages | len }}|{{ (.Nope).x }}", "<no value>|4|<no value>"),
        ("{{ or true (index .Messages 99) }}{{ and 0 (index .Messages 99) }}", "true0"),
        ("{{ or 0 `` `x` }}|{{ and 1 `` 2 }}|{{ not nil }}", "x||true"),
        ("{{ 'a' }} {{ 0b11 }} {{ 017 }} {{ 1e6 }} {{ .5 }}", "97 3 15 1e+06 0.5"),
        ("{{ 2i }} {{ 1+2i }} {{ 0x1p4 }}", "(0+2i) (1+2i) 16"),
        ("a {{- /* c */ -}} b{{ `\\n` }}{{ \"\\t\\u00e9\\x41\" }}", "ab\\n\téA"),
        ("{{ print .Messages | len | lt 5 }}", "true"),
    ],
)  # fmt: skip
def test_the_language(source: str, output: str) -> None:
    assert render(source) == output


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ .Nope.x }}", "1:8: executing \"\" at <.Nope.x>: nil pointer evaluating interface {}.x"),
        ("\n{{ .System.x }}", "2:10: executing \"\" at <.System.x>: can't evaluate field x in type string"),
        ("{{ nil }}", '1:3: executing "" at <nil>: nil is not a command'),
        ("{{ 1 2 }}", "1:3: executing \"\" at <1>: can't give argument to non-function 1"),
        ("{{ .System 1 }}", '1:3: executing "" at <.System>: System is not a method but has arguments'),
        ("{{ len }}", '1:3: executing "" at <len>: wrong number of args for len: want 1 got 0'),
        ("{{ and }}", '1:3: executing "" at <and>: wrong number of args for and: want at least 1 got 0'),
        ("{{ printf 1 }}", '1:10: executing "" at <1>: expected string; found 1'),
        ("{{ range 1.5 }}{{ end }}", "1:9: executing \"\" at <1.5>: range can't iterate over 1.5"),
        ('{{ template "x" . }}', '1:12: executing "" at <{{template "x" .}}>: template "x" not defined'),
        (
            '{{ define "t" }}{{ .x }}{{ end }}{{ template "t" 1 }}',
            "1:19: executing \"t\" at <.x>: can't evaluate field x in type int",
        ),
        ("{{ if true }}{{ $y := 1 }}{{ end }}{{ if false }}{{ end }}{{ index .Messages\n 9 }}",
         '1:61: executing "" at <index .Messages 9>: error calling index: index out of range: 9'),
    ],
)  # fmt: skip
def test_a_failing_execution_reports_its_place(source: str, text: str) -> None:
    with pytest.raises(TemplateError) as raised:
        render(source)
    assert raised.value.message == f"template: :{text}"
    assert raised.value.line == int(text.split(":")[0])


def test_a_variable_of_the_other_branch_does_not_exist() -> None:
    source = "{{ range 2 }}{{ if eq . 0 }}{{ $y := 1 }}{{ else }}{{ $y }}{{ end }}{{ end }}"
    with pytest.raises(TemplateError, match=r"undefined variable: \$y"):
        render(source)


STEPS = "exceeded maximum of 5000000 execution steps"
DEPTH = r"exceeded maximum (template depth \(50\)|depth of templates or data)"
LONG = '{{ $x := printf "%1000000d" 1 }}'
CALLS_ITSELF = '{{ define "a" }}%s{{ template "a" . }}%s{{ end }}{{ template "a" . }}'
CALLS_TWO = '{{ define "a%d" }}{{ template "a%d" . }}{{ template "a%d" . }}{{ end }}'
HOSTILE = {
    "range": ("{{ range 1000000000 }}{{ end }}", STEPS),
    "nested": ("{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}", STEPS),
    "doubling": ('{{ $x := "aaaaaaaa" }}{{ range 99 }}{{ $x = print $x $x }}{{ end }}', STEPS),
    "output": ('{{ range 1000 }}{{ printf "%1000000d" 1 }}{{ end }}', STEPS),
    "width": ('{{ $y := printf "' + "%1000000[1]d" * 500 + '" 1 }}', "text longer than 67108864 characters"),
    "html": (LONG + "{{ range 1000000 }}{{ $y := html $x }}{{ end }}", STEPS),
    "eq": (LONG + "{{ range 1000000 }}{{ $y := eq $x $x }}{{ end }}", STEPS),
    "slice": ("{{ range 1000000 }}{{ $y := slice $.Messages 0 }}{{ $.Tools }}{{ end }}", STEPS),
    "recursion": (CALLS_ITSELF % ("", ""), DEPTH),
    "deep recursion": (CALLS_ITSELF % ("{{ if true }}" * 80, "{{ end }}" * 80), DEPTH),
    "tree": (
        "".join(CALLS_TWO % (i, i + 1, i + 1) for i in range(40))
        + '{{ define "a40" }}{{ end }}{{ template "a0" . }}',
        STEPS,
    ),
}


@pytest.mark.parametrize(("source", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_ends_in_a_clear_error(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as raised:
        render(source)
    assert len(raised.value.message) < 1200


@pytest.mark.parametrize("name", ["__class__", "__init__", "fields", "type", "items", "json"])
def test_nothing_of_python_can_be_reached(name: str) -> None:
    with pytest.raises(TemplateError, match=f"can't evaluate field {name} in type"):
        render(f"{{{{ range .Messages }}}}{{{{ .{name} }}}}{{{{ end }}}}")
    assert render(f"{{{{ .{name} }}}}") == "<no value>"


OPERANDS = st.sampled_from(
    [".System", ".Messages", ".Tools", ".Nope", ".", "$", "1", "1.5", '"a"', "nil", "true"]
)
FUNCTIONS = st.sampled_from(
    [
        "print", "println", 'printf "%v|%d|%s|%5.1f"', "len", "not", "eq", "ne", "lt", "le", "gt", "ge",
        "and", "or",
        "index", "slice", "json", "html", "js", "urlquery", "call", "toTypeScriptType", "currentDate",
    ]
)  # fmt: skip
EXPRESSIONS = st.recursive(
    OPERANDS,
    lambda inner: st.builds(
        lambda name, operands: f"({' '.join([name, *operands])})", FUNCTIONS, st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
@settings(max_examples=100)
def test_any_expression_gives_text_or_a_template_error(expression: str) -> None:
    source = f"{{{{ {expression} }}}}{{{{ range {expression} }}}}{{{{ . }}}}{{{{ end }}}}"
    try:
        render(source).encode()
    except TemplateError as error:
        complaint = error.message
    else:
        complaint = "template: :1:"
    assert complaint.startswith("template: :1:")
