"""Compiler of syntax trees to closures. Statements return a signal: NEXT, BREAK or CONTINUE."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from ollama_tw.templates.gotemplate import nodes
from ollama_tw.templates.gotemplate.errors import EvaluationError, TemplateError
from ollama_tw.templates.gotemplate.execution import MAX_DEPTH, Run, Variables
from ollama_tw.templates.gotemplate.expressions import Expressions
from ollama_tw.templates.gotemplate.functions import Environment, Function
from ollama_tw.templates.gotemplate.literals import valid_text
from ollama_tw.templates.gotemplate.text import printed
from ollama_tw.templates.gotemplate.values import INVALID, Value, is_nil, keys_of

NEXT: Final = 0
BREAK: Final = 1
CONTINUE: Final = 2

Execute: TypeAlias = Callable[[Run, Value, Variables], int]


class Program:
    """Compiled trees, which call each other by name. Immutable and thread-safe.

    ``missing`` is the value of a key that a map lacks: None with Go's ``missingkey=zero``, else INVALID.
    """

    def __init__(
        self,
        source: str,
        trees: Mapping[str, nodes.Nodes],
        functions: Mapping[str, Function],
        missing: Value = None,
    ) -> None:
        self._missing = missing
        self._bodies: dict[str, tuple[Execute, int]] = {}
        for name, statements in trees.items():
            expressions = Expressions(source, name, functions)
            place = statements[0] if statements else nodes.Text(0, "")
            execute = _Statements(expressions, self._bodies).block(statements, place)
            self._bodies[name] = execute, expressions.slots

    def execute(self, data: Value, environment: Environment) -> str:
        """Return the output for ``data``, which is valid Unicode. Raises TemplateError."""
        run = Run(environment, self._missing)
        execute, slots = self._bodies[""]
        try:
            execute(run, data, [data] + [INVALID] * slots)
        except RecursionError:
            raise TemplateError(
                1, 'template: :1: executing "": exceeded maximum depth of templates or data'
            ) from None
        return valid_text("".join(run.parts))


class _Statements:
    """Compiler of the statements of one named tree."""

    def __init__(self, expressions: Expressions, bodies: Mapping[str, tuple[Execute, int]]) -> None:
        self._expressions = expressions
        self._error = expressions.error
        self._bodies = bodies

    def block(self, statements: nodes.Nodes, place: nodes.Node) -> Execute:
        """Compile a list of statements; an exceeded limit is reported at the node ``place``."""
        compiled = [self._statement(item) for item in statements]
        cost = 1 + sum(map(_cost, statements))
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            try:
                run.charge(cost)
            except EvaluationError as complaint:
                raise error(place, complaint) from None
            for statement in compiled:
                signal = statement(run, dot, variables)
                if signal:
                    return signal
            return NEXT

        return execute

    def _statement(self, node: nodes.Statement) -> Execute:
        match node:
            case nodes.Text():
                return self._text(node)
            case nodes.Action():
                return self._action(node)
            case nodes.Branch(keyword="range"):
                return self._range(node)
            case nodes.Branch():
                return self._if_or_with(node)
            case nodes.Call():
                return self._template_call(node)
            case nodes.Break():
                return lambda run, dot, variables: BREAK
            case nodes.Continue():
                return lambda run, dot, variables: CONTINUE

    def _text(self, node: nodes.Text) -> Execute:
        text = node.text
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            try:
                run.write(text)
            except EvaluationError as complaint:
                raise error(node, complaint) from None
            return NEXT

        return execute

    def _action(self, node: nodes.Action) -> Execute:
        pipe = self._expressions.pipe(node.pipe)
        silent = bool(node.pipe.variables)
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            value = pipe(run, dot, variables)
            if silent:
                return NEXT
            try:
                if type(value) is not str:
                    value = printed(value)
                    run.charge(len(value) >> 4)
                run.write(value)
            except EvaluationError as complaint:
                raise error(node, complaint) from None
            return NEXT

        return execute

    def _if_or_with(self, node: nodes.Branch) -> Execute:
        scope = self._expressions.scope()
        pipe = self._expressions.pipe(node.pipe)
        inner = self._expressions.scope()
        body = self.block(node.body, node.pipe)
        # In Go, too, the body's variables turn out undefined in the alternative only at execution.
        self._expressions.leave(inner)
        alternative = None if node.alternative is None else self.block(node.alternative, node.pipe)
        self._expressions.leave(scope)
        rebinds = node.keyword == "with"

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            value = pipe(run, dot, variables)
            if value:
                return body(run, value if rebinds else dot, variables)
            return alternative(run, dot, variables) if alternative is not None else NEXT

        return execute

    def _range(self, node: nodes.Branch) -> Execute:
        scope = self._expressions.scope()
        pipe = self._expressions.pipe(node.pipe)
        inner = self._expressions.scope()
        slots = [self._expressions.slot(name) for name in node.pipe.variables]
        body = self.block(node.body, node.pipe)
        self._expressions.leave(inner)
        alternative = None if node.alternative is None else self.block(node.alternative, node.pipe)
        self._expressions.leave(scope)
        key_slot = slots[0] if len(slots) == 2 else None
        item_slot = slots[-1] if slots else None
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            value = pipe(run, dot, variables)
            if type(value) is int and key_slot is not None:
                raise error(node.pipe, f"can't use {value} to iterate over more than one variable")
            try:
                items = _items(value)
            except EvaluationError as complaint:
                raise error(node.pipe, complaint) from None
            empty = True
            for key, item in items:
                empty = False
                if key_slot is not None:
                    variables[key_slot] = key
                if item_slot is not None:
                    variables[item_slot] = item
                if body(run, item, variables) == BREAK:
                    break
            if empty and alternative is not None:
                return alternative(run, dot, variables)
            return NEXT

        return execute

    def _template_call(self, node: nodes.Call) -> Execute:
        bodies = self._bodies
        pipe = self._expressions.pipe(node.pipe) if node.pipe is not None else None
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            data = pipe(run, dot, variables) if pipe is not None else INVALID
            if node.name not in bodies:
                raise error(node, f'template "{node.name}" not defined')
            if run.depth == MAX_DEPTH:
                raise error(node, f"exceeded maximum template depth ({MAX_DEPTH})")
            body, slots = bodies[node.name]
            run.depth += 1
            body(run, data, [data] + [INVALID] * slots)
            run.depth -= 1
            return NEXT

        return execute


def _items(value: Value) -> Iterable[tuple[Value, Value]]:
    """Return the pairs of index or key and item that ``range`` iterates over."""
    if isinstance(value, list):
        return enumerate(value)
    if isinstance(value, dict):
        return [(key, value[key]) for key in keys_of(value)]
    if type(value) is int:
        return ((index, index) for index in range(value))
    if is_nil(value):
        return ()
    raise EvaluationError(f"range can't iterate over {printed(value)}")


def _cost(node: nodes.Statement) -> int:
    """Return the steps of a statement without those of nested statements."""
    if isinstance(node, nodes.Action | nodes.Branch | nodes.Call) and node.pipe is not None:
        return 1 + _pipe_cost(node.pipe)
    return 1


def _pipe_cost(node: nodes.Pipe) -> int:
    operands = [item for command in node.commands for item in command.operands]
    return len(operands) + sum(_pipe_cost(item) for item in operands if isinstance(item, nodes.Pipe))
