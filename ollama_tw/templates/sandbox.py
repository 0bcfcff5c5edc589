"""Sandboxed and metered Jinja environment for the chat templates of GGUF files.

Templates are untrusted programs. Jinja's sandbox protects Python's internals. This environment also
offers only the filters, globals and methods that chat templates use, and charges loops, recursion and
growing values to the :class:`~ollama_tw.templates.budget.Budget` of the rendering.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any, Final

from jinja2 import nodes, pass_context
from jinja2.ext import Extension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Joiner, Namespace
from jinja2.visitor import NodeTransformer

from ollama_tw.templates.budget import LimitExceeded, TemplateRefusal, current, weigh
from ollama_tw.templates.filters import (
    OWN_FILTERS,
    concat,
    reserve_joined,
    reserve_percent,
    reserve_power,
    reserve_product,
    reserve_replacement,
)
from ollama_tw.templates.growing import METHODS, GrowingList, built, charged, settled


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PLAIN_FILTERS = _words(
    "abs capitalize count d default dictsort first float groupby int items last length "
    "lower map max min reject rejectattr reverse select selectattr sort string title trim unique "
    "upper urlencode wordcount"
)

_METHODS: Final = {
    str: _words(
        "capitalize casefold count endswith find format format_map index isalnum isalpha isascii isdecimal "
        "isdigit islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix "
        "removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip "
        "swapcase title upper"
    ),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    GrowingList: METHODS | {"copy", "count", "index"},
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset(),
    bytes: frozenset(),
}

_MAX_REFUSAL: Final = 1000
"""Maximum length of a template's own error text in characters."""

_WIDE_BRACE = re.compile(r"\{[^{}:]*:[^{}]*(\d{4}|\{)")


class JsonObject(dict[str, Any]):
    """Dictionary whose ``str`` is its JSON; ``+`` with a string concatenates that."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)


class _Namespace(Namespace):
    def __repr__(self) -> str:
        return "namespace"


class GenerationTag(Extension):
    """``{% generation %}...{% endgeneration %}``, which marks the assistant's text for training."""

    tags = {"generation"}  # noqa: RUF012 (declared so by the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the body as a scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Environment(ImmutableSandboxedEnvironment):
    """Environment of templates compiled with :meth:`metered` and rendered within ``budget.spending``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
            finalize=_finalize,
        )
        self.filters = {name: _metered(FILTERS[name]) for name in _PLAIN_FILTERS}
        for name, function in (OWN_FILTERS | _INSTRUMENTS).items():
            self.filters[name] = _metered(function)
        self.filters[_CHARGE] = _charge
        self.globals = {
            "range": safe_range,
            "dict": dict,
            "namespace": _Namespace,
            "joiner": Joiner,
            "raise_exception": _raise_exception,
        }

    def metered(self, source: str) -> nodes.Template:
        """Parse ``source`` and instrument its AST: loops, macros and growing expressions are charged."""
        grows = any(f".{method}" in source for method in METHODS)
        tree: nodes.Template = _Metering(grows).visit(self.parse(source))
        tree.set_environment(self)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow only the listed methods of plain values."""
        for kind, allowed in _METHODS.items():
            if isinstance(obj, kind):
                return attr in allowed
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Bound the result of ``str.format``."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text: str = value.__self__

        def format_text(*args: Any, **kwargs: Any) -> str:
            if _WIDE_BRACE.search(text):
                raise LimitExceeded("the chat template formats with a width that is too large")
            current().reserve(len(text) + text.count("{") * (weigh(args) + weigh(kwargs) + 1000))
            return wrapped(*args, **kwargs)

        return format_text

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method, and charge its result."""
        current().step()
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            name = getattr(obj, "__name__", "")
            if name == "replace":
                reserve_replacement(owner, *args)
            elif name == "join" and args:
                args = (reserve_joined(args[0], owner),)
        elif isinstance(owner, GrowingList):
            args = charged(args)
        elif obj is dict:
            kwargs = {key: settled(value) for key, value in kwargs.items()}
        return current().hold(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute a binary operation, and charge its result."""
        if operator == "+":
            if isinstance(left, JsonObject) and isinstance(right, str):
                left = str(left)
            elif isinstance(right, JsonObject) and isinstance(left, str):
                right = str(right)
            if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
                current().reserve(len(left) + len(right))
        elif operator == "*":
            reserve_product(left, right)
        elif operator == "**":
            reserve_power(left, right)
        elif isinstance(left, str):
            reserve_percent(left, right)
        result = current().hold(super().call_binop(context, operator, left, right))
        return GrowingList(result) if isinstance(left, GrowingList) and isinstance(result, list) else result


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    if not isinstance(value, str):
        value = str(current().hold(value))
    current().step(len(value))
    return value


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` as a filter that charges its result and that the compiler never folds."""
    kind = getattr(function, "jinja_pass_arg", None)

    @functools.wraps(function)
    def wrapper(context: Context, *args: Any, **kwargs: Any) -> Any:
        if kind is None:
            result = function(*args, **kwargs)
        else:
            passed = {
                "context": context,
                "eval_context": context.eval_ctx,
                "environment": context.environment,
            }
            result = function(passed[kind.name], *args, **kwargs)
        return current().hold(result)

    return pass_context(wrapper)


def _raise_exception(message: Any = "") -> None:
    raise TemplateRefusal(str(message)[:_MAX_REFUSAL])


# These names are not identifiers, so that only the instrumented tree can refer to them.
_CHARGE = "<charge>"
_CONCAT = "<concat>"
_BUILT = "<built>"
_INSTRUMENTS: Final[dict[str, Callable[..., Any]]] = {_CONCAT: concat, _BUILT: built}


@pass_context
def _charge(context: Context, size: int) -> int:
    current().step(size)
    return 0


class _Metering(NodeTransformer):
    """Instruments an AST so that constructs without a hook in Jinja are charged too.

    ``grows`` is True if the template may append to the lists that it builds.
    """

    def __init__(self, grows: bool) -> None:
        self._grows = grows

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._charged(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._charged(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._charged(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._literal(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        if node.ctx != "load":
            return self.generic_visit(node)
        return self._literal(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._literal(node, [pair.value for pair in node.items])

    def _charged(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        size = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        charge = _filter(nodes.Const(size, lineno=node.lineno), _CHARGE)
        node.body = [nodes.ExprStmt(charge, lineno=node.lineno), *node.body]
        return node

    def _literal(self, node: nodes.Expr, items: list[nodes.Expr]) -> nodes.Node:
        constant = all(isinstance(item, nodes.Const) for item in items) and not (
            self._grows and isinstance(node, nodes.List)
        )
        self.generic_visit(node)
        return node if constant else _filter(node, _BUILT)


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
