from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from ollama_tw.templates.gotemplate import TemplateError, parse

NOW = datetime(2026, 3, 4)
TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]


def render(source: str, messages: Any = (), **arguments: Any) -> str:
    return parse(source).render(messages, now=NOW, **arguments)


@pytest.mark.parametrize(
    ("think", "output"),
    [
        (None, "false||false"),
        (False, "false||true"),
        (True, "true|medium|true"),
        ("low", "true|low|true"),
    ],
)
def test_think(think: bool | str | None, output: str) -> None:
    source = "{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}{{ range .Messages }}{{ end }}"
    assert render(source, think=think) == output


def test_neighbours_of_equal_role_are_merged_except_tools() -> None:
    messages = [
        {"role": "system", "content": "A"},
        {"role": "user", "content": "1", "thinking": "t1"},
        {"role": "user", "content": "2", "thinking": "t2"},
        {"role": "tool", "content": "x"},
        {"role": "tool", "content": "y"},
        {"role": "system", "content": "B"},
    ]
    source = "{{ .System }}{{ range .Messages }}[{{ .Role }} {{ .Content }} {{ .Thinking }}]{{ end }}"
    assert render(source, messages) == "A\n\nB[system A ][user 1\n\n2 t1][tool x ][tool y ][system B ]"


def test_a_template_without_messages_is_executed_for_each_turn() -> None:
    source = "<{{ .System }}|{{ .Prompt }}>{{ .Response }}</s>"
    assert render(source, TURNS) == "<S|U1>A1</s><|U2>"
    assert render(source, TURNS[:3]) == "<S|U1>A1"
    assert render(source, []) == "<|>"


def test_response_is_appended_when_a_template_has_neither() -> None:
    template = parse("<{{ .Prompt }}>")
    assert template.text == "<{{ .Prompt }}>"
    assert template.render(TURNS, now=NOW) == "<U1>A1<U2>"


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{{ .Prompt }}{{ printf `%s%s` .Response `z` }}E", "U1A1zEU2%!s(MISSING)"),
        ("{{ if .Response }}r{{ end }}{{ .Prompt }}{{ .Response }}E", "rU1A1EU2"),
        ("{{ if .Prompt }}{{ .Prompt }}{{ .Response }}E{{ else }}Q{{ end }}F", "U1A1EFU2"),
        ("{{ if .Nope }}Q{{ .Response }}E{{ else }}{{ .Prompt }}{{ end }}F{{ .Response }}", "U1FA1U2"),
        ("{{ .Prompt }}{{ .Response | printf `%s` }}E", "U1A1EU2"),
        ("{{ .Prompt }}{{ $.Response }}E{{ .Response }}F", "U1A1EA1FU2E"),
    ],
)
def test_the_last_turn_ends_with_its_response(source: str, output: str) -> None:
    assert render(source, TURNS) == output


def test_the_last_turn_has_neither_ollamas_functions_nor_definitions() -> None:
    with pytest.raises(TemplateError, match='"json" is not a defined function'):
        render("{{ json .Prompt }}{{ .Response }}", TURNS)
    with pytest.raises(TemplateError, match='template "t" not defined'):
        render('{{ define "t" }}{{ . }}{{ end }}{{ template "t" .Prompt }}{{ .Response }}', TURNS)


def test_filling_in_needs_prompt_and_suffix() -> None:
    source = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    assert render(source, TURNS, prompt="a", suffix="b") == "<P>a<S>b<M>"
    assert render(source, TURNS[1:2], prompt="a") == "U1"


def test_contents_are_never_executed() -> None:
    message = {"role": "user", "content": "{{ .System }}{{ range 9 }}"}
    assert render("{{ range .Messages }}{{ .Content }}{{ end }}", [message]) == "{{ .System }}{{ range 9 }}"


def test_invalid_utf8_becomes_replacement_characters() -> None:
    output = render('{{ "\\xff" }}{{ slice "é" 0 1 }}{{ slice "é" 1 }}{{ range .Messages }}{{ end }}')
    assert output == "\ufffdé"
    assert (
        render("{{ range .Messages }}{{ .Content }}{{ end }}", [{"role": "user", "content": "a\ud800"}])
        == "a\ufffd"
    )


def test_one_template_serves_many_threads() -> None:
    template = parse(
        "{{ $x := 0 }}{{ range $i, $_ := .Messages }}{{ $x = $i }}{{ .Content }}{{ end }}{{ $x }}"
    )

    def work(number: int) -> str:
        messages = [{"role": "tool", "content": f"{number},"} for _ in range(number)]
        return template.render(messages, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(work, range(1, 60)))
    assert outputs == [f"{number}," * number + str(number - 1) for number in range(1, 60)]


def test_ten_thousand_messages_are_within_the_limits() -> None:
    source = (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "user" }}u{{ else }}a{{ end }}'
        '{{ if and $last (eq .Role "assistant") }}!{{ end }}{{ end }}'
    )
    messages = [{"role": ("user", "assistant")[number % 2], "content": "x"} for number in range(10_000)]
    assert render(source, messages) == "ua" * 5000 + "!"
