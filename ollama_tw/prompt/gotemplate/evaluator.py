"""Syntax trees → closures, and the state of one execution.

Each node becomes a function of (run, dot, variables): the execution's state, the current value of
``.`` and the list of the variables' values. Where a variable lives in the list is settled when
compiling. Statements give a signal: NEXT, BREAK or CONTINUE.

What a template may cost is bounded by steps (about one a node executed, and more for long values),
by the length of its output and of every text it makes, and by the depth of ``{{template}}``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from ollama_tw.prompt.gotemplate import nodes
from ollama_tw.prompt.gotemplate.errors import EvaluationError, TemplateError, line_of
from ollama_tw.prompt.gotemplate.functions import LOGIC, Environment, Function
from ollama_tw.prompt.gotemplate.text import printed
from ollama_tw.prompt.gotemplate.values import INVALID, Value, field_of, is_nil, type_name

MAX_STEPS = 2_000_000
MAX_OUTPUT = 64 << 20
MAX_DEPTH = 50

NEXT: Final = 0
BREAK: Final = 1
CONTINUE: Final = 2


class Run:
    """The state of one execution."""

    def __init__(self, environment: Environment, missing: Value) -> None:
        self.environment = environment
        self.missing = missing
        self.parts: list[str] = []
        self.room = environment.max_text
        self.steps = MAX_STEPS
        self.depth = 0

    def write(self, text: str) -> None:
        """Adds to the output. Raises EvaluationError when there is too much of it."""
        self.room -= len(text)
        if self.room < 0:
            raise EvaluationError(f"output longer than {self.environment.max_text} characters")
        self.parts.append(text)

    def charge(self, steps: int) -> None:
        """Counts steps. Raises EvaluationError when there were too many."""
        self.steps -= steps
        if self.steps < 0:
            raise EvaluationError(f"exceeded maximum of {MAX_STEPS} execution steps")


Variables: TypeAlias = list[Value]
Evaluate: TypeAlias = Callable[[Run, Value, Variables], Value]
Execute: TypeAlias = Callable[[Run, Value, Variables], int]


class Program:
    """Compiled trees that call each other by name; immutable once made, so that threads may share it.

    ``missing`` is the value under a key that a map lacks: None with Go's ``missingkey=zero``, else INVALID.
    """

    def __init__(
        self,
        source: str,
        trees: Mapping[str, nodes.Nodes],
        functions: Mapping[str, Function],
        missing: Value = None,
    ) -> None:
        self._missing = missing
        self._source = source
        self._bodies: dict[str, tuple[Execute, int]] = {}
        for name, statements in trees.items():
            compiler = _Compiler(source, name, functions, self._bodies)
            execute = compiler.statements(statements)
            self._bodies[name] = execute, compiler.slots

    def execute(self, data: Value, environment: Environment) -> str:
        """The output for ``data``. Raises TemplateError."""
        run = Run(environment, self._missing)
        execute, slots = self._bodies[""]
        try:
            execute(run, data, [data] + [INVALID] * slots)
        except RecursionError:
            raise TemplateError(1, 'template: :1: executing "": exceeded maximum template depth') from None
        return "".join(run.parts)


class _Compiler:
    """Compiles one named tree. ``slots``: how many variables its execution needs besides ``$``."""

    def __init__(
        self,
        source: str,
        name: str,
        functions: Mapping[str, Function],
        bodies: Mapping[str, tuple[Execute, int]],
    ) -> None:
        self.slots = 0
        self._source = source
        self._name = name
        self._functions = functions
        self._bodies = bodies
        self._scope = ["$"]

    def _error(self, node: nodes.Node, message: object) -> TemplateError:
        line = line_of(self._source, node.position)
        column = node.position - (self._source.rfind("\n", 0, node.position) + 1 if line > 1 else 0)
        place = f'template: :{line}:{column}: executing "{self._name}" at <{node}>'
        return TemplateError(line, f"{place}: {message}")

    def _failing(self, node: nodes.Node, message: str) -> Evaluate:
        def fail(run: Run, dot: Value, variables: Variables) -> Value:
            raise self._error(node, message)

        return fail

    def _declare(self, name: str) -> int:
        self._scope.append(name)
        slot = len(self._scope) - 1
        self.slots = max(self.slots, slot)
        return slot

    def _slot(self, name: str) -> int | None:
        """The place of the innermost variable of that name."""
        for slot in range(len(self._scope) - 1, -1, -1):
            if self._scope[slot] == name:
                return slot
        return None

    # Statements

    def statements(self, statements: nodes.Nodes) -> Execute:
        """A list of statements; a BREAK or CONTINUE ends it."""
        compiled = [self._statement(item) for item in statements]
        cost = 1 + sum(map(_cost, statements))
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            run.steps -= cost
            if run.steps < 0:
                try:
                    run.charge(0)
                except EvaluationError as complaint:
                    raise error(statements[0], complaint) from None
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
        pipe = self._pipe(node.pipe)
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
        scope = len(self._scope)
        pipe = self._pipe(node.pipe)
        inner = len(self._scope)
        body = self.statements(node.body)
        # Go sees at execution that the body's variables do not exist in the alternative.
        del self._scope[inner:]
        alternative = None if node.alternative is None else self.statements(node.alternative)
        del self._scope[scope:]
        rebinds = node.keyword == "with"

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            value = pipe(run, dot, variables)
            if value:
                return body(run, value if rebinds else dot, variables)
            return alternative(run, dot, variables) if alternative is not None else NEXT

        return execute

    def _range(self, node: nodes.Branch) -> Execute:
        scope = len(self._scope)
        pipe = self._pipe(node.pipe)
        inner = len(self._scope)
        slots = [self._slot(name) for name in node.pipe.variables]
        body = self.statements(node.body)
        del self._scope[inner:]
        alternative = None if node.alternative is None else self.statements(node.alternative)
        del self._scope[scope:]
        key_slot = slots[0] if len(slots) == 2 else None
        item_slot = slots[-1] if slots else None
        error = self._error

        def execute(run: Run, dot: Value, variables: Variables) -> int:
            value = pipe(run, dot, variables)
            if type(value) is int and key_slot is not None:
                raise error(node, f"can't use {value} to iterate over more than one variable")
            try:
                items = _items(value)
            except EvaluationError as complaint:
                raise error(node, complaint) from None
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
        pipe = self._pipe(node.pipe) if node.pipe is not None else None
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

    # Pipelines

    def _pipe(self, node: nodes.Pipe) -> Evaluate:
        """The value of a pipeline, which it also gives to the pipeline's variables."""
        value: Evaluate | None = None
        for command in node.commands:
            value = self._concrete(self._command(command, value))
        assert value is not None, "a parsed pipeline has a command"
        for name in node.variables:
            slot = self._slot(name) if node.assigns else self._declare(name)
            if slot is None:
                return self._failing(node, f"undefined variable: {name}")
            value = _storing(value, slot)
        return value

    @staticmethod
    def _concrete(evaluate: Evaluate) -> Evaluate:
        def concrete(run: Run, dot: Value, variables: Variables) -> Value:
            value = evaluate(run, dot, variables)
            return INVALID if value is None else value

        return concrete

    def _command(self, node: nodes.Command, final: Evaluate | None) -> Evaluate:
        """A command; ``final`` evaluates what is piped into it."""
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
        """No value has methods with arguments: an error, unless the field is of no value at all."""
        receiver = self._operand(node)
        error = self._error

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
                return self._pipe(node)
            case nodes.Field(names=names):
                return self._fields(node, lambda run, dot, variables: dot, names)
            case nodes.Variable(name=name, names=names):
                return self._fields(node, self._variable(node, name), names)
            case nodes.Identifier():
                return self._call(node, node, [], None)
            case nodes.Chain(base=base, names=names):
                return self._fields(node, self._operand(base), names)

    def _variable(self, node: nodes.Node, name: str) -> Evaluate:
        slot = self._slot(name)
        if slot is None:
            return self._failing(node, f"undefined variable: {name}")
        return lambda run, dot, variables: variables[slot]

    def _fields(self, node: nodes.Node, receiver: Evaluate, names: tuple[str, ...]) -> Evaluate:
        if not names:
            return receiver
        error = self._error

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
            return self._failing(node, f'"{name}" is not a defined function')
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
        error = self._error

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
                        run.charge(len(value) >> 6)
                result = call(run.environment, values)
                if type(result) is str:
                    run.charge(len(result) >> 2)
            except EvaluationError as complaint:
                raise error(node, f"error calling {name}: {complaint}") from None
            return result

        return evaluate


def _items(value: Value) -> Iterable[tuple[Value, Value]]:
    """What ``range`` goes through: pairs of index or key and item."""
    if isinstance(value, list):
        return enumerate(value)
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if type(value) is int:
        return ((index, index) for index in range(value))
    if is_nil(value):
        return ()
    raise EvaluationError(f"range can't iterate over {printed(value)}")


def _storing(evaluate: Evaluate, slot: int) -> Evaluate:
    def store(run: Run, dot: Value, variables: Variables) -> Value:
        value = variables[slot] = evaluate(run, dot, variables)
        return value

    return store


def _logic(stops_at: bool, arguments: list[Evaluate], final: Evaluate | None) -> Evaluate:
    """``and`` and ``or``: the first argument whose truth is ``stops_at``, else the last."""

    def evaluate(run: Run, dot: Value, variables: Variables) -> Value:
        piped = final(run, dot, variables) if final is not None else None
        value: Value = INVALID
        for argument in arguments:
            value = argument(run, dot, variables)
            if bool(value) is stops_at:
                return value
        return value if final is None else piped

    return evaluate


def _cost(node: nodes.Statement) -> int:
    """The steps that a statement takes, without those of the statements within it."""
    if isinstance(node, nodes.Action | nodes.Branch | nodes.Call) and node.pipe is not None:
        return 1 + _pipe_cost(node.pipe)
    return 1


def _pipe_cost(node: nodes.Pipe) -> int:
    operands = [item for command in node.commands for item in command.operands]
    return len(operands) + sum(_pipe_cost(item) for item in operands if isinstance(item, nodes.Pipe))
