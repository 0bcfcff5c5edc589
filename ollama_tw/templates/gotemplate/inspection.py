"""Static analysis of a template's syntax trees."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ollama_tw.templates.gotemplate import nodes
from ollama_tw.templates.gotemplate.errors import TemplateError, line_of


class ThinkingTags(NamedTuple):
    """Texts before and after a message's thinking; "" if the template has none."""

    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """Properties of a template that are known without executing it.

    ``identifiers`` are the names of its fields and variables in lower case (``messages``, ``toolcalls``,
    ``$last``). ``tool_tag`` is the text that begins a tool call, ``{`` if the template contains none.
    ``thinking_tags`` surround the thinking of a message; they are usable only if neither is empty.
    """

    identifiers: frozenset[str]
    tool_tag: str
    thinking_tags: ThinkingTags


def identifiers(source: str, trees: Iterable[nodes.Nodes]) -> frozenset[str]:
    """Return all names of fields and variables, in lower case, variables with their ``$``.

    Neither fields of a parenthesised pipeline nor newly declared variables are included. Raises
    TemplateError for a ``{{template}}`` without an argument.

    Source: ollama: template/template.go, Template.Vars, Identifiers.
    """
    names: set[str] = set()
    for statement in (item for tree in trees for item in _all_statements(tree)):
        if isinstance(statement, nodes.Call) and statement.pipe is None:
            raise TemplateError(line_of(source, statement.position), "undefined template specified")
        for operand in _operands(_pipe_of(statement)):
            if isinstance(operand, nodes.Variable):
                names.add(operand.name.lower())
            if isinstance(operand, nodes.Field | nodes.Variable):
                names.update(map(str.lower, operand.names))
    return frozenset(names)


def tool_tag(template: nodes.Nodes) -> str:
    """Return the text with which a tool call begins, ``{`` if the template contains none.

    Source: ollama: tools/template.go, parseTag.
    """
    branch = _tool_calls_branch(template)
    text = _first_text(branch.body) if branch is not None else None
    tag = (text or "").replace("\r\n", "\n").partition("{")[0].strip()
    return tag or "{"


def thinking_tags(template: nodes.Nodes) -> ThinkingTags:
    """Return the texts around the last ``.Thinking`` in a range over the messages.

    Source: ollama: thinking/template.go, InferTags.
    """
    opening = closing = ""
    for statements in _lists_with_thinking(template, None):
        first, last = statements[0], statements[-1]
        if isinstance(first, nodes.Text):
            opening = first.text.strip()
        if isinstance(last, nodes.Text):
            closing = last.text.strip()
    return ThinkingTags(opening, closing)


def cut_after_response(template: nodes.Nodes) -> nodes.Nodes:
    """Return the template up to and including its first ``.Response`` that is not a condition.

    The reply continues there. If it is in a branch, the alternative is cut at its own ``.Response``.

    Source: ollama: template/template.go, Template.Execute, deleteNode.
    """
    return _cut(template)[0]


def _cut(statements: nodes.Nodes) -> tuple[nodes.Nodes, bool]:
    kept: list[nodes.Statement] = []
    for statement in statements:
        if isinstance(statement, nodes.Action):
            pipe, is_cut = _cut_pipe(statement.pipe)
            kept.append(nodes.Action(statement.position, pipe))
        elif isinstance(statement, nodes.Branch):
            body, is_cut = _cut(statement.body)
            alternative, alternative_is_cut = statement.alternative, False
            if alternative is not None:
                alternative, alternative_is_cut = _cut(alternative)
            is_cut = is_cut or alternative_is_cut
            kept.append(
                nodes.Branch(statement.position, statement.keyword, statement.pipe, body, alternative)
            )
        else:
            is_cut = False
            kept.append(statement)
        if is_cut:
            return tuple(kept), True
    return tuple(kept), False


def _cut_pipe(pipe: nodes.Pipe) -> tuple[nodes.Pipe, bool]:
    commands: list[nodes.Command] = []
    for command in pipe.commands:
        operands: list[nodes.Operand] = []
        for operand in command.operands:
            is_cut = isinstance(operand, nodes.Field) and "Response" in operand.names
            if isinstance(operand, nodes.Pipe):
                operand, is_cut = _cut_pipe(operand)
            operands.append(operand)
            if is_cut:
                commands.append(nodes.Command(command.position, tuple(operands)))
                return nodes.Pipe(pipe.position, pipe.variables, pipe.assigns, tuple(commands)), True
        commands.append(command)
    return pipe, False


def _all_statements(statements: nodes.Nodes) -> Iterator[nodes.Statement]:
    """Yield the statements and those nested in them, in the order of the text."""
    for statement in statements:
        yield statement
        if isinstance(statement, nodes.Branch):
            yield from _all_statements(statement.body)
            yield from _all_statements(statement.alternative or ())


def _pipe_of(statement: nodes.Statement) -> nodes.Pipe | None:
    return statement.pipe if isinstance(statement, nodes.Action | nodes.Branch | nodes.Call) else None


def _operands(pipe: nodes.Pipe | None) -> Iterator[nodes.Operand]:
    """Yield the operands of a pipeline and of those in parentheses within it."""
    for operand in (item for command in (pipe.commands if pipe else ()) for item in command.operands):
        yield operand
        if isinstance(operand, nodes.Pipe):
            yield from _operands(operand)


def _tool_calls_branch(template: nodes.Nodes) -> nodes.Branch | None:
    for statement in _all_statements(template):
        if isinstance(statement, nodes.Branch) and statement.keyword == "if":
            operands = [item for command in statement.pipe.commands for item in command.operands]
            if any(isinstance(item, nodes.Field) and "ToolCalls" in item.names for item in operands):
                return statement
    return None


def _first_text(statements: nodes.Nodes) -> str | None:
    """Return the first text that is not blank; None if an action precedes it or a branch has none."""
    for statement in statements:
        if isinstance(statement, nodes.Text) and statement.text.strip():
            return statement.text
        if isinstance(statement, nodes.Action):
            return None
        if isinstance(statement, nodes.Branch):
            return _first_text(statement.body) or _first_text(statement.alternative or ())
    return None


def _lists_with_thinking(statements: nodes.Nodes, loop: nodes.Branch | None) -> Iterator[nodes.Nodes]:
    """Yield the list of statements around each ``.Thinking`` whose innermost range is over the messages."""
    for statement in statements:
        inner = statement if isinstance(statement, nodes.Branch) and statement.keyword == "range" else loop
        if (
            inner is not None
            and _mentions(inner.pipe, "Messages")
            and _mentions(_pipe_of(statement), "Thinking")
        ):
            yield statements
        if isinstance(statement, nodes.Branch):
            yield from _lists_with_thinking(statement.body, inner)
            yield from _lists_with_thinking(statement.alternative or (), inner)


def _mentions(pipe: nodes.Pipe | None, name: str) -> bool:
    """Return True if the pipeline has a field of ``.`` that begins with ``name``."""
    return any(isinstance(item, nodes.Field) and item.names[0] == name for item in _operands(pipe))
