import pytest

from ollama_tw.templates.gotemplate import parse


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
    ],
)
def test_identifiers(source: str, names: set[str]) -> None:
    assert parse(source).identifiers == names


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
    assert parse(source).tool_tag == tag


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
    ],
)
def test_thinking_tags(source: str, tags: tuple[str, str]) -> None:
    assert parse(source).thinking_tags == tags
