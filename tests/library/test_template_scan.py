"""What a scan of Go templates finds."""

import json
from pathlib import Path

import pytest

from ollama_tw.library.template_scan import scan_template

LOOP = "{{ range .Messages }}"


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("{{ .Prompt }}", {"prompt", "response"}),
        ("{{ range $i, $m := $.Messages }}{{ $m.Role }}{{ end }}", {"$m", "$", "messages", "role"}),
        ("{{- if .System -}}{{ .Response }}{{- end -}}", {"system", "response"}),
        ("{{ .Function.Name }}{{ .Response }}", {"function", "name", "response"}),
        ('{{ if eq .Role ".Tools }}" }}{{ .Response }}{{ end }}', {"role", "response"}),
        ("{{/* .Tools */}}{{ .Response }}", {"response"}),
        ("{{- /* .Tools */ -}}{{ .Response }}", {"response"}),
        (".Tools {{ json `.Suffix` }}", {"response"}),
        ("plain", {"response"}),
        ("{{", {"response"}),
    ],
)
def test_identifiers(text: str, identifiers: set[str]) -> None:
    assert scan_template(text).identifiers == identifiers


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (
            LOOP + "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        (
            LOOP + "{{ if .Thinking }}\n<think>\n{{ .Thinking }}\n</think>\n{{ else }}x{{ end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        (LOOP + "<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>")),
        ("{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}", None),
        ("{{ range .Tools }}<think>{{ .Thinking }}</think>{{ end }}", None),
        (LOOP + "{{ if .Thinking }}<think>{{ end }}{{ end }}", None),
        (LOOP + "{{ if .Thinking }}{{ .Thinking }}{{ end }}{{ end }}", None),
        (LOOP + "{{ if .Thinking }} {{ .Thinking }} {{ end }}{{ end }}", None),
    ],
)
def test_thinking_tags(text: str, tags: tuple[str, str] | None) -> None:
    assert scan_template(text).thinking_tags == tags


def test_it_agrees_with_ollama() -> None:
    lines = (Path(__file__).parent / "data" / "template_traits.jsonl").read_text().splitlines()
    assert len(lines) > 50
    for case in map(json.loads, lines):
        traits = scan_template(case["template"])
        tags = tuple(case["tags"]) if "tags" in case else None
        assert traits.identifiers == frozenset(case["vars"]), case["name"]
        assert traits.thinking_tags == tags, case["name"]
