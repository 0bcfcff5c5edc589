"""Go templates of chat formats."""

import enum
from dataclasses import dataclass

from ollama_tw.templates.known_formats.formats import Format


class When(enum.Enum):
    """Conversations that begin with the opening text."""

    ALWAYS = enum.auto()
    NOT_AFTER_SYSTEM = enum.auto()
    """Conversations whose first message is not a system message."""
    WITHOUT_SYSTEM = enum.auto()
    """Conversations without a system message."""


@dataclass(frozen=True)
class Opening:
    """Text before the first message: a preamble or a default system message."""

    text: str
    when: When


def go_template(form: Format, opening: Opening | None = None) -> str:
    """Return the Go template that writes conversations in ``form``, including its tokens.

    An assistant's message at the end of a conversation is left open, to be continued. The texts of
    ``form`` must not contain braces.
    """
    parts = [_opening(opening, When.ALWAYS), _opening(opening, When.WITHOUT_SYSTEM)]
    parts.append('{{ $last := "" }}')
    if form.system_in_user:
        parts.append('\n{{- $system := "" }}')
    parts.append("\n{{- range $i, $_ := .Messages }}")
    parts.append(_opening(opening, When.NOT_AFTER_SYSTEM))
    parts.append("\n{{- $last = .Role }}")
    parts.append('\n{{- if eq .Role "system" }}')
    parts.append("{{ $system = .Content }}" if form.system_in_user else "{{ .Content }}".join(form.system))
    parts.append('{{ else if eq .Role "user" }}')
    content = "{{ .Content }}"
    if form.system_in_user:
        system = "{{ $system }}".join(form.system)
        content = f'{{{{ if $system }}}}{system}{{{{ $system = "" }}}}{{{{ end }}}}{content}'
    parts.append(content.join(form.user))
    before, after = form.assistant
    parts.append('{{ else if eq .Role "assistant" }}')
    parts.append(f"{before}{{{{ .Content }}}}")
    if after:
        parts.append(f"{{{{ if ne (len (slice $.Messages $i)) 1 }}}}{after}{{{{ end }}}}")
    parts.append("{{ end }}")
    parts.append("\n{{- end }}")
    if form.answer:
        parts.append(f'{{{{ if ne $last "assistant" }}}}{form.answer}{{{{ end }}}}')
    return "".join(parts)


def _opening(opening: Opening | None, when: When) -> str:
    if opening is None or opening.when is not when:
        return ""
    if when is When.ALWAYS:
        return opening.text
    if when is When.WITHOUT_SYSTEM:
        return f"{{{{ if not .System }}}}{opening.text}{{{{ end }}}}"
    return f'\n{{{{- if and (eq $i 0) (ne .Role "system") }}}}{opening.text}{{{{ end }}}}'
