import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.templates.gotemplate import TemplateError, parse

FRAGMENTS = st.sampled_from(
    [
        "{{", "}}", "{{- ", " -}}", "if ", "else ", "end", "range ", "with ", 'define "a"', 'template "a" .',
        'block "b" .', "break", "continue", "$x", "$x := ", "$i, $x := ", ".A", ".A.B", "$", '"s"', "`r`",
        "'c'", "1", "0x", "1e", "-", "(", ")", "|", " ", "\n", "text", 'printf "%v"', "len ", "nil",
        "/* c */", ",", '"', "😀",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\n{{ nofunc }}", 'template: :2: function "nofunc" not defined'),
        ("{{ if .A }}\n\nabc", "template: :3: unexpected EOF"),
        ("{{ end }}", "template: :1: unexpected {{end}}"),
        ("{{ else }}", "template: :1: unexpected {{else}}"),
        ("{{ break }}", "template: :1: {{break}} outside {{range}}"),
        ("{{ range .A }}{{ else }}{{ continue }}{{ end }}", "template: :1: {{continue}} outside {{range}}"),
        ("{{ }}", "template: :1: missing value for command"),
        ("{{ if }}{{ end }}", "template: :1: missing value for if"),
        ("{{ .A | 1 }}", "template: :1: non executable command in pipeline stage 2"),
        ("{{ $x }}", 'template: :1: undefined variable "$x"'),
        ("{{ if $x := 1 }}{{ end }}{{ $x }}", 'template: :1: undefined variable "$x"'),
        ("{{ $x, $y := .A }}", "template: :1: too many declarations in command"),
        ("{{ range $x, 1 }}{{ end }}", "template: :1: range can only initialize variables"),
        ("{{ 1.x }}", 'template: :1: bad number syntax: "1.x"'),
        ('{{ "a".x }}', 'template: :1: unexpected . after term "\\"a\\""'),
        ("{{ 1 := 2 }}", 'template: :1: unexpected ":=" in operand'),
        ('{{ "\\q" }}', "template: :1: invalid syntax"),
        ("{{ 08 }}", 'template: :1: integer overflow: "08"'),
        ("{{ 'ab' }}", "template: :1: malformed character constant: 'ab'"),
        ('{{ define "a" }}', "template: :1: unexpected EOF"),
        (
            '{{ define "a" }}x{{ end }}{{ define "a" }}y{{ end }}',
            'template: :1: template: multiple definition of template "a"',
        ),
        ("{{ if .A }}{{ else }}{{ else }}{{ end }}", "template: :1: expected end; found {{else}}"),
        ("{{ .A\n.B\n", "template: :3: unclosed action started at :1"),
        ('x{{ "a\n', "template: :1: unterminated quoted string"),
    ],
)
def test_errors_have_gos_texts(source: str, text: str) -> None:
    with pytest.raises(TemplateError) as raised:
        parse(source)
    assert raised.value.message == text
    assert raised.value.line == int(text.split(":")[2])
    assert raised.value.status == 500


def test_a_template_call_without_an_argument_is_rejected() -> None:
    with pytest.raises(TemplateError) as raised:
        parse('{{ define "a" }}{{ end }}\n{{ template "a" }}')
    assert (raised.value.message, raised.value.line) == ("undefined template specified", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{{ if .A }}" * 3000 + "{{ end }}" * 3000,
        "{{ if .A }}" + "{{ else if .B }}" * 3000 + "{{ end }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        '{{ block "x" . }}' * 3000 + "{{ end }}" * 3000,
    ],
    ids=["if", "else-if", "parentheses", "block"],
)
def test_nesting_is_bounded(source: str) -> None:
    with pytest.raises(TemplateError, match="exceeded maximum nesting depth"):
        parse(source)


def test_ninety_levels_are_fine() -> None:
    template = parse("{{ if true }}" * 90 + "x" + "{{ end }}" * 90 + "{{ .Response }}")
    assert template.traits.identifiers == {"response"}


def test_length_is_bounded() -> None:
    with pytest.raises(TemplateError, match="template longer than 131072 characters"):
        parse("x" * 131073)


@pytest.mark.parametrize("digits", ["9" * 100_000, "0x" + "f" * 100_000, "1e" + "9" * 100_000])
def test_long_numbers_are_rejected_without_conversion(digits: str) -> None:
    with pytest.raises(TemplateError, match="number of more than 400 characters"):
        parse(f"{{{{ {digits} }}}}")


@given(st.one_of(st.text(max_size=60), st.lists(FRAGMENTS, max_size=16).map("".join)))
@settings(max_examples=100)
def test_any_text_parses_or_is_a_template_error(source: str) -> None:
    try:
        line = parse(source).text.count("\n") + 1
    except TemplateError as error:
        line = error.line
    assert 1 <= line <= source.count("\n") + 1
