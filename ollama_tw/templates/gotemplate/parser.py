"""Parser of templates: one syntax tree for the template, one for each ``define`` and ``block``.

Grammar, accepted oddities and error texts are those of Go. A tree needs no further checks before it is
compiled. Source: Go's package ``text/template/parse`` (parse.go).
"""

from collections.abc import Collection
from typing import Literal, NoReturn, cast

from ollama_tw.golang.quoting import quote
from ollama_tw.templates.gotemplate import literals, nodes
from ollama_tw.templates.gotemplate.errors import TemplateError, line_of
from ollama_tw.templates.gotemplate.lexer import Kind, Token, tokenize

MAX_LENGTH = 1 << 17
"""Maximum length of a template in characters; the longest published ones have about 10,000."""
MAX_NESTING = 100
"""Maximum nesting of control structures and parentheses; an ``else if`` counts as one."""

_OPERANDS = frozenset(
    {
        Kind.BOOL, Kind.CHARACTER_CONSTANT, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL,
        Kind.RAW_STRING, Kind.STRING, Kind.VARIABLE, Kind.LEFT_PARENTHESIS,
    }
)  # fmt: skip
_STRINGS = frozenset({Kind.STRING, Kind.RAW_STRING})
_CONTROLS: dict[Kind, Literal["if", "with", "range"]] = {
    Kind.IF: "if",
    Kind.WITH: "with",
    Kind.RANGE: "range",
}
_INERT = (nodes.Constant, nodes.Dot, nodes.Nil)


class _End:
    """``{{end}}`` or ``{{else}}`` at the end of a list of statements."""

    def __init__(self, text: str) -> None:
        self.text = text


_END = _End("{{end}}")
_ELSE = _End("{{else}}")


def parse_trees(source: str, functions: Collection[str]) -> dict[str, nodes.Nodes]:
    """Return the syntax trees of ``source`` by name; that of the template itself is ``""``.

    ``functions`` are the names of the functions that may be called. Raises TemplateError.
    """
    if len(source) > MAX_LENGTH:
        raise TemplateError(1, f"template: :1: template longer than {MAX_LENGTH} characters")
    parser = _Parser(source, functions)
    parser.run()
    return parser.trees


class _Parser:
    def __init__(self, source: str, functions: Collection[str]) -> None:
        self.trees: dict[str, nodes.Nodes] = {}
        self._source = source
        self._functions = functions
        self._tokens = tokenize(source)
        self._next = 0
        self._furthest = 0
        self._variables = ["$"]
        self._ranges = 0
        self._nesting = 0
        self._action_line = 0

    # Tokens

    def _peek(self) -> Token:
        index = min(self._next, len(self._tokens) - 1)
        self._furthest = max(self._furthest, index)
        return self._tokens[index]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _peek_solid(self) -> Token:
        """Skip spaces and return the next token without consuming it."""
        while (token := self._peek()).kind is Kind.SPACE:
            self._next += 1
        return token

    def _take_solid(self) -> Token:
        token = self._peek_solid()
        self._next += 1
        return token

    def _expect(self, kinds: Collection[Kind], context: str) -> Token:
        token = self._take_solid()
        if token.kind not in kinds:
            self._unexpected(token, context)
        return token

    # Errors

    def fail(self, message: str) -> NoReturn:
        """Raise the error with the line of the last token that was looked at, as Go does."""
        line = line_of(self._source, self._tokens[self._furthest].position)
        raise TemplateError(line, f"template: :{line}: {message}")

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is not Kind.ERROR:
            self.fail(f"unexpected {_describe(token)} in {context}")
        started = ""
        if self._action_line not in (0, line_of(self._source, token.position)):
            words = " started" if token.text.endswith(" action") else " in action started"
            started = f"{words} at :{self._action_line}"
        self.fail(token.text + started)

    # Statements

    def run(self) -> None:
        statements: list[nodes.Statement] = []
        while self._peek().kind is not Kind.END_OF_FILE:
            start = self._next
            if self._take().kind is Kind.LEFT_DELIMITER and self._take_solid().kind is Kind.DEFINE:
                self._define()
                continue
            self._next = start
            statement = self._statement()
            if isinstance(statement, _End):
                self.fail(f"unexpected {statement.text}")
            statements.append(statement)
        self._add_tree("", tuple(statements))

    def _add_tree(self, name: str, statements: nodes.Nodes) -> None:
        if name not in self.trees or _is_blank(self.trees[name]):
            self.trees[name] = statements
        elif not _is_blank(statements):
            self.fail(f"template: multiple definition of template {quote(name)}")

    def _define(self) -> None:
        name = self._string(self._expect(_STRINGS, "define clause"))
        self._expect((Kind.RIGHT_DELIMITER,), "define clause")
        self._definition(name, "define clause")

    def _definition(self, name: str, context: str) -> None:
        """Parse the body of a named template, in which outer variables are undefined."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        statements, end = self._list()
        if end is not _END:
            self.fail(f"unexpected {end.text} in {context}")
        self._add_tree(name, statements)
        self._variables, self._ranges = outer

    def _list(self) -> tuple[nodes.Nodes, _End]:
        statements: list[nodes.Statement] = []
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self.fail("exceeded maximum nesting depth")
        while True:
            if self._peek_solid().kind is Kind.END_OF_FILE:
                self.fail("unexpected EOF")
            statement = self._statement()
            if isinstance(statement, _End):
                self._nesting -= 1
                return tuple(statements), statement
            statements.append(statement)

    def _statement(self) -> nodes.Statement | _End:
        token = self._take_solid()
        if token.kind is Kind.TEXT:
            return nodes.Text(token.position, token.text)
        if token.kind is not Kind.LEFT_DELIMITER:
            self._unexpected(token, "input")
        self._action_line = line_of(self._source, token.position)
        statement = self._action()
        self._action_line = 0
        return statement

    def _action(self) -> nodes.Statement | _End:
        token = self._peek_solid()
        kind = token.kind
        if kind in _CONTROLS:
            self._take()
            return self._branch(_CONTROLS[kind], token.position)
        if kind is Kind.END:
            self._take()
            self._expect((Kind.RIGHT_DELIMITER,), "end")
            return _END
        if kind is Kind.ELSE:
            self._take()
            if self._peek_solid().kind not in (Kind.IF, Kind.WITH):
                self._expect((Kind.RIGHT_DELIMITER,), "else")
            return _ELSE
        if kind in (Kind.BREAK, Kind.CONTINUE):
            self._take()
            self._expect((Kind.RIGHT_DELIMITER,), f"{{{{{kind.value}}}}}")
            if not self._ranges:
                self.fail(f"{{{{{kind.value}}}}} outside {{{{range}}}}")
            return (nodes.Break if kind is Kind.BREAK else nodes.Continue)(token.position)
        if kind in (Kind.TEMPLATE, Kind.BLOCK):
            self._take()
            return self._call(kind)
        return nodes.Action(token.position, self._pipe("command", Kind.RIGHT_DELIMITER))

    def _branch(self, keyword: Literal["if", "with", "range"], position: int) -> nodes.Branch:
        known = len(self._variables)
        pipe = self._pipe(keyword, Kind.RIGHT_DELIMITER)
        self._ranges += keyword == "range"
        body, end = self._list()
        self._ranges -= keyword == "range"
        alternative: nodes.Nodes | None = None
        if end is _ELSE:
            token = self._peek()
            if keyword != "range" and _CONTROLS.get(token.kind) == keyword:
                # {{else if}} is an if within the else, and its {{end}} is the end of both.
                self._take()
                self._nesting += 1
                if self._nesting > MAX_NESTING:
                    self.fail("exceeded maximum nesting depth")
                alternative = (self._branch(keyword, token.position),)
                self._nesting -= 1
            else:
                alternative, end = self._list()
                if end is not _END:
                    self.fail(f"expected end; found {end.text}")
        del self._variables[known:]
        return nodes.Branch(position, keyword, pipe, body, alternative)

    def _call(self, kind: Kind) -> nodes.Call:
        context = "block clause" if kind is Kind.BLOCK else "template clause"
        token = self._take_solid()
        if token.kind not in _STRINGS:
            self._unexpected(token, context)
        name = self._string(token)
        if kind is Kind.TEMPLATE and self._peek_solid().kind is Kind.RIGHT_DELIMITER:
            self._take()
            return nodes.Call(token.position, name, None)
        pipe = self._pipe(context, Kind.RIGHT_DELIMITER)
        if kind is Kind.BLOCK:
            self._definition(name, context)
        return nodes.Call(token.position, name, pipe)

    # Pipelines

    def _pipe(self, context: str, end: Kind) -> nodes.Pipe:
        position = self._peek_solid().position
        variables, assigns = self._targets(context)
        commands: list[nodes.Command] = []
        while True:
            token = self._peek_solid()
            if token.kind is end:
                self._take()
                break
            if token.kind not in _OPERANDS:
                self._take()
                self._unexpected(token, context)
            commands.append(self._command())
        if not commands:
            self.fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.operands[0], _INERT):
                self.fail(f"non executable command in pipeline stage {stage}")
        return nodes.Pipe(position, variables, assigns, tuple(commands))

    def _targets(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Parse the variables before ``:=`` or ``=``; the second value is True for ``=``."""
        variables: list[str] = []
        while (variable := self._peek_solid()).kind is Kind.VARIABLE:
            start = self._next
            self._take()
            following = self._peek_solid()
            if following.kind in (Kind.DECLARE, Kind.ASSIGN):
                self._take()
                # An assigned variable counts as declared too: in Go it fails only at execution if it is not.
                self._variables.append(variable.text)
                return (*variables, variable.text), following.kind is Kind.ASSIGN
            if following.kind is Kind.CHARACTER and following.text == ",":
                self._take()
                self._variables.append(variable.text)
                variables.append(variable.text)
                if context != "range" or len(variables) > 1:
                    self.fail(f"too many declarations in {context}")
                after = self._peek_solid().kind
                if after not in (Kind.VARIABLE, Kind.RIGHT_DELIMITER, Kind.RIGHT_PARENTHESIS):
                    self.fail("range can only initialize variables")
                continue
            self._next = start
            break
        return tuple(variables), False

    def _command(self) -> nodes.Command:
        position = self._peek_solid().position
        operands: list[nodes.Operand] = []
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._take()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT_DELIMITER, Kind.RIGHT_PARENTHESIS):
                self._next -= 1
            elif token.kind is not Kind.PIPE:
                self._unexpected(token, "operand")
            break
        if not operands:
            self.fail("empty command")
        return nodes.Command(position, tuple(operands))

    def _operand(self) -> nodes.Operand | None:
        term = self._term()
        if term is None or self._peek().kind is not Kind.FIELD:
            return term
        position = self._peek().position
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._take().text[1:])
        if isinstance(term, nodes.Field):
            return nodes.Field(position, (*term.names, *names))
        if isinstance(term, nodes.Variable):
            return nodes.Variable(position, term.name, tuple(names))
        if isinstance(term, _INERT):
            self.fail(f"unexpected . after term {quote(str(term))}")
        return nodes.Chain(position, cast(nodes.Pipe | nodes.Identifier, term), tuple(names))

    def _term(self) -> nodes.Operand | None:
        token = self._take_solid()
        kind, text, position = token
        if kind is Kind.IDENTIFIER:
            if text not in self._functions:
                self.fail(f'function "{text}" not defined')
            return nodes.Identifier(position, text)
        if kind is Kind.DOT:
            return nodes.Dot(position)
        if kind is Kind.NIL:
            return nodes.Nil(position)
        if kind is Kind.FIELD:
            return nodes.Field(position, (text[1:],))
        if kind is Kind.VARIABLE:
            if text not in self._variables:
                self.fail(f'undefined variable "{text}"')
            return nodes.Variable(position, text, ())
        if kind is Kind.BOOL:
            return nodes.Constant(position, text == "true", text)
        if kind is Kind.LEFT_PARENTHESIS:
            return self._parentheses()
        if kind in _STRINGS:
            return nodes.Constant(position, self._string(token), text)
        if kind in (Kind.NUMBER, Kind.CHARACTER_CONSTANT):
            read = literals.number if kind is Kind.NUMBER else literals.character
            try:
                return nodes.Constant(position, read(text), text)
            except ValueError as error:
                self.fail(str(error))
        self._next -= 1
        return None

    def _parentheses(self) -> nodes.Pipe:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self.fail("exceeded maximum nesting depth")
        pipe = self._pipe("parenthesized pipeline", Kind.RIGHT_PARENTHESIS)
        self._nesting -= 1
        return pipe

    def _string(self, token: Token) -> str:
        try:
            return literals.unquote(token.text)
        except ValueError as error:
            self.fail(str(error))


def _describe(token: Token) -> str:
    if token.kind is Kind.END_OF_FILE:
        return "EOF"
    if token.kind is Kind.DOT or isinstance(token.kind.value, str):
        return f"<{token.text}>"
    return quote(token.text[:10]) + ("..." if len(token.text) > 10 else "")


def _is_blank(statements: nodes.Nodes) -> bool:
    return all(isinstance(item, nodes.Text) and not item.text.strip() for item in statements)
