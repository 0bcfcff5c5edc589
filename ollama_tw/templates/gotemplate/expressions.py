"""Compiler of operands and pipelines to closures.

It assigns each variable its index in the list of an execution's variables.
"""

from collections.abc import Mapping

from ollama_tw.templates.gotemplate import nodes
from ollama_tw.templates.gotemplate.errors import EvaluationError, TemplateError, line_of
from ollama_tw.templates.gotemplate.execution import Evaluate, Run, Variables
from ollama_tw.templates.gotemplate.functions import LOGIC, Function
from ollama_tw.templates.gotemplate.values import INVALID, Value, field_of, type_name


class Expressions:
    """Compiler of the pipelines of one named tree.

    ``slots`` is the number of variables that its execution needs besides ``$``, the first in the list.
    """

    def __init__(self, source: str, name: str, functions: Mapping[str, Function]) -> None:
        self.slots = 0
        self._source = source
        self._name = name
        self._functions = functions
        self._scope = ["$"]

    def error(self, node: nodes.Node, message: object) -> TemplateError:
        """Return the error of ``node`` at execution, with Go's text."""
        line = line_of(self._source, node.position)
        column = node.position - (self._source.rfind("\n", 0, node.position) + 1 if line > 1 else 0)
        place = f'template: :{line}:{column}: executing "{self._name}" at <{_shortened(str(node))}>'
        return TemplateError(line, f"{place}: {_shortened(str(message))}")

    def _failing(self, node: nodes.Node, message: str) -> Evaluate:
        def fail(run: Run, dot: Value, variables: Variables) -> Value:
            raise self.error(node, message)

        return fail

    def scope(self) -> int:
        """Return a mark of the current scope for `leave`."""
        return len(self._scope)

    def leave(self, mark: int) -> None:
        """Remove the variables declared since the mark was taken."""
        del self._scope[mark:]

    def _declare(self, name: str) -> int:
        self._scope.append(name)
        slot = len(self._scope) - 1
        self.slots = max(self.slots, slot)
        return slot

    def slot(self, name: str) -> int | None:
        """Return the index of the innermost variable of that name."""
        for slot in range(len(self._scope) - 1, -1, -1):
            if self._scope[slot] == name:
                return slot
        return None

    def pipe(self, node: nodes.Pipe) -> Evaluate:
        """Compile a pipeline, whose value is also assigned to the pipeline's variables."""
        first, *others = node.commands
        value = _concrete(self._command(first, None))
        for command in others:
            value = _concrete(self._command(command, value))
        for name in node.variables:
            slot = self.slot(name) if node.assigns else self._declare(name)
            if slot is None:
                return self._failing(node, f"undefined variable: {name}")
            value = _storing(value, slot)
        return value

    def _command(self, node: nodes.Command, final: Evaluate | None) -> Evaluate:
        """Compile a command; ``final`` evaluates its last argument, which is piped into it."""
        first, *rest = node.operands
        has_arguments = bool(rest) or final is not None
        match first:
            case nodes.Identifier():
                return self._call(node, first, rest, final)
            case nodes.Nil():
                return self._failing(first, "nil is not a command")
            case nodes.Field(names=names) | nodes.Chain(names=names) | nodes.Variable(names=names) if (
                has_arguments and names
            ):
                return self._field_with_arguments(first, names[-1], final)
            case _ if has_arguments:
                return self._failing(first, f"can't give argument to non-function {first}")
            case _:
                return self._operand(first)

    def _field_with_arguments(self, node: nodes.Operand, name: str, final: Evaluate | None) -> Evaluate:
        """Compile a field with arguments: an error unless the receiver is INVALID, as no method has any."""
        receiver = self._operand(node)
        error = self.error

        def evaluate(run: Run, dot: Value, variables: Variables) -> Value:
            if final is not None:
                final(run, dot, variables)
            if receiver(run, dot, variables) is INVALID:
                return INVALID
            raise error(node, f"{name} is not a method but has arguments")

        return evaluate

    def _operand(self, node: nodes.Operand) -> Evaluate:
        match node:
            case nodes.Dot():
                return lambda run, dot, variables: dot
            case nodes.Nil():
                return lambda run, dot, variables: INVALID
            case nodes.Constant(value=value):
                if type(value) is int and value >= 2**63:
                    return self._failing(node, f"{node} overflows int")
                return lambda run, dot, variables: value
            case nodes.Pipe():
                return self.pipe(node)
            case nodes.Field(names=names):
                return self._fields(node, lambda run, dot, variables: dot, names)
            case nodes.Variable(name=name, names=names):
                return self._fields(node, self._variable(node, name), names)
            case nodes.Identifier():
                return self._call(node, node, [], None)
            case nodes.Chain(base=base, names=names):
                return self._fields(node, self._operand(base), names)

    def _variable(self, node: nodes.Node, name: str) -> Evaluate:
        slot = self.slot(name)
        if slot is None:
            return self._failing(node, f"undefined variable: {name}")
        return lambda run, dot, variables: variables[slot]

    def _fields(self, node: nodes.Node, receiver: Evaluate, names: tuple[str, ...]) -> Evaluate:
        if not names:
            return receiver
        error = self.error

        def evaluate(run: Run, dot: Value, variables: Variables) -> Value:
            value = receiver(run, dot, variables)
            try:
                for name in names:
                    value = field_of(value, name, run.missing)
            except EvaluationError as complaint:
                raise error(node, complaint) from None
            return value

        return evaluate

    def _call(
        self,
        node: nodes.Node,
        identifier: nodes.Identifier,
        operands: list[nodes.Operand],
        final: Evaluate | None,
    ) -> Evaluate:
        name = identifier.name
        function = self._functions.get(name)
        if function is None:
            return self._failing(identifier, f'"{name}" is not a defined function')
        arguments = [self._operand(item) for item in operands]
        count = len(arguments) + (final is not None)
        if count < function.minimum or (count > function.minimum and not function.variadic):
            wanted = f"at least {function.minimum}" if function.variadic else str(function.minimum)
            return self._failing(identifier, f"wrong number of args for {name}: want {wanted} got {count}")
        if name in LOGIC:
            return _logic(name == "or", arguments, final)
        strings = count if function.strings is None else min(function.strings, count)
        places: list[nodes.Node] = [*operands, node]
        call = function.call
        error = self.error

        def evaluate(run: Run, dot: Value, variables: Variables) -> Value:
            piped = final(run, dot, variables) if final is not None else None
            values = [argument(run, dot, variables) for argument in arguments]
            if final is not None:
                values.append(piped)
            for value, place in zip(values[:strings], places, strict=False):
                if not isinstance(value, str):
                    if isinstance(place, nodes.Constant):
                        raise error(place, f"expected string; found {place}")
                    raise error(place, f"wrong type for value; expected string; got {type_name(value)}")
            try:
                for value in values:
                    if isinstance(value, str | list) and len(value) > 256:
                        run.charge(len(value) >> 8)
                result = call(run.environment, values)
                if type(result) is str:
                    run.charge(len(result) >> 2)
            except EvaluationError as complaint:
                raise error(node, f"error calling {name}: {complaint}") from None
            return result

        return evaluate


def _concrete(evaluate: Evaluate) -> Evaluate:
    """Replace a nil interface, within a pipeline, by INVALID."""

    def concrete(run: Run, dot: Value, variables: Variables) -> Value:
        value = evaluate(run, dot, variables)
        return INVALID if value is None else value

    return concrete


def _storing(evaluate: Evaluate, slot: int) -> Evaluate:
    def store(run: Run, dot: Value, variables: Variables) -> Value:
        value = variables[slot] = evaluate(run, dot, variables)
        return value

    return store


def _logic(stops_at: bool, arguments: list[Evaluate], final: Evaluate | None) -> Evaluate:
    """Compile ``and`` or ``or``: the first argument whose truth is ``stops_at``, else the last."""

    def evaluate(run: Run, dot: Value, variables: Variables) -> Value:
        piped = final(run, dot, variables) if final is not None else None
        value: Value = INVALID
        for argument in arguments:
            value = argument(run, dot, variables)
            if bool(value) is stops_at:
                return value
        return value if final is None else piped

    return evaluate


def _shortened(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:500]}..."
