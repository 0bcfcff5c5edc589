"""What a scan of Go templates finds."""

import pytest

from ollama_tw.library.template_scan import scan_template

LOOP = "{{ range .Messages }}"


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("{{ .Prompt }}", {"prompt", "response"}),
        ("{{ range $i, $m := $.Messages }}{{ $m.Role }}{{ end }}", {"$i", "$m", "$", "messages", "role"}),
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
