"""Static analysis of Go templates."""

import json
from pathlib import Path

import pytest

from ollama_tw.templates.gotemplate import template_traits

LOOP = "{{ range .Messages }}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ .A.B }}{{ $.Messages }}", {"a", "b", "$", "messages"}),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ end }}", {"messages", "$i"}),
        ("{{ if and .A (eq .B 1) }}{{ .C }}{{ else }}{{ .Response }}{{ end }}", {"a", "b", "c", "response"}),
        ('{{ define "t" }}{{ .Messages }}{{ end }}', {"messages"}),
        ('{{ template "t" .X }}{{ define "t" }}{{ end }}{{ .Response }}', {"x", "response"}),
        ("{{ (index .Messages 0).Role }}", {"response"}),
        ("{{ .Prompt }}", {"prompt", "response"}),
        ("{{ range $i, $m := $.Messages }}{{ $m.Role }}{{ end }}", {"$m", "$", "messages", "role"}),
        ("{{- if .System -}}{{ .Response }}{{- end -}}", {"system", "response"}),
        ("{{ .Function.Name }}{{ .Response }}", {"function", "name", "response"}),
        ('{{ if eq .Role ".Tools }}" }}{{ .Response }}{{ end }}', {"role", "response"}),
        ("{{/* .Tools */}}{{ .Response }}", {"response"}),
        ("{{- /* .Tools */ -}}{{ .Response }}", {"response"}),
        (".Tools {{ json `.Suffix` }}", {"response"}),
        ("plain", {"response"}),
    ],
)
def test_identifiers(source: str, names: set[str]) -> None:
    assert template_traits(source).identifiers == names


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ('{{ if .ToolCalls }}<tool_call>{"name": 1}{{ end }}', "<tool_call>"),
        ('{{ if .ToolCalls }}\n{{ range .ToolCalls }}[TOOL_CALLS] [{"a"{{ end }}{{ end }}', "[TOOL_CALLS] ["),
        ("{{ if .ToolCalls }}a\r\nb{{ end }}", "a\nb"),
        ('{{ if .ToolCalls }}{"name"{{ end }}', "{"),
        ("{{ if .ToolCalls }}{{ .X }}<call>{{ end }}", "{"),
        ("{{ if .ToolCalls }}{{ if .X }}{{ end }}<call>{{ end }}", "{"),
        ("{{ if .ToolCalls }}{{ if .X }}{{ else }}<b>{{ end }}<call>{{ end }}", "<b>"),
        ("{{ if and .X .Message.ToolCalls }}<a>{{ end }}", "<a>"),
        ("{{ if and .X (gt (len .ToolCalls) 0) }}<a>{{ end }}", "{"),
        ("{{ range $m := .Messages }}{{ if $m.ToolCalls }}<a>{{ end }}{{ end }}", "{"),
        ("{{ if .X }}{{ else }}{{ with .Y }}{{ if .ToolCalls }}<c>{{ end }}{{ end }}{{ end }}", "<c>"),
        ("no calls", "{"),
    ],
)
def test_tool_tag(source: str, tag: str) -> None:
    assert template_traits(source).tool_tag == tag


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        (
            "{{ range .Messages }}{{ if .Thinking }} <a>\n{{ .Thinking }}</a> {{ end }}{{ end }}",
            ("<a>", "</a>"),
        ),
        ("{{ range $i, $m := .Messages }}<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>")),
        ("{{ range .Other }}<a>{{ .Thinking }}</a>{{ end }}", ("", "")),
        ("{{ range .Messages }}{{ range .ToolCalls }}<a>{{ .Thinking }}</a>{{ end }}{{ end }}", ("", "")),
        ("{{ range .Messages }}<a>{{ $.Thinking }}</a>{{ end }}", ("", "")),
        ("{{ range .Messages }}<a>{{ .Thinking }}{{ end }}", ("<a>", "")),
        (
            "{{ range .Messages }}<a>{{ .Thinking }}</a>{{ else }}<b>{{ .Thinking }}</b>{{ end }}",
            ("<b>", "</b>"),
        ),
        (
            LOOP + "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        (
            LOOP + "{{ if .Thinking }}\n<think>\n{{ .Thinking }}\n</think>\n{{ else }}x{{ end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        (LOOP + "<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>")),
        ("{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}", ("", "")),
        ("{{ range .Tools }}<think>{{ .Thinking }}</think>{{ end }}", ("", "")),
        (LOOP + "{{ if .Thinking }}<think>{{ end }}{{ end }}", ("", "")),
        (LOOP + "{{ if .Thinking }}{{ .Thinking }}{{ end }}{{ end }}", ("", "")),
        (LOOP + "{{ if .Thinking }} {{ .Thinking }} {{ end }}{{ end }}", ("", "")),
    ],
)
def test_thinking_tags(source: str, tags: tuple[str, str]) -> None:
    assert template_traits(source).thinking_tags == tags


def test_traits_agree_with_ollama() -> None:
    path = Path(__file__).parents[1] / "data" / "template_traits.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) > 50
    for case in map(json.loads, lines):
        traits = template_traits(case["template"])
        tags = tuple(case["tags"]) if "tags" in case else None
        assert traits.identifiers == frozenset(case["vars"]), case["name"]
        assert (traits.thinking_tags if all(traits.thinking_tags) else None) == tags, case["name"]
