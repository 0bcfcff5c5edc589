"""Private names of Twisted and Autobahn: the listed ones exist, and no others are used."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator

import pytest
from twisted.python.reflect import namedAny

import ollama_tw.http
from ollama_tw.http.third_party_internals import PRIVATE_NAMES

LISTED = [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in sorted(names)]
# Variables in the endpoints that hold an object of another class than ``self``.
VARIABLES = {"channel": "twisted.web.http.HTTPChannel"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_in(owner: type) -> set[str]:
    """Return the private methods that ``owner`` defines and the private attributes that it assigns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assigned = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    variables = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return {name for name in functions | assigned | variables if is_private(name)}


def bases_of(owner: type) -> list[type]:
    foreign = ("twisted", "autobahn")
    return [base for base in owner.__mro__[1:] if base.__module__.split(".")[0] in foreign]


def used_names() -> Iterator[tuple[type, str]]:
    """Yield the foreign class and the private name of each use in ``ollama_tw.http``."""
    for found in pkgutil.walk_packages(ollama_tw.http.__path__, "ollama_tw.http."):
        module = importlib.import_module(found.name)
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                holder = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner := VARIABLES.get(holder):
                    yield namedAny(owner), node.attr
            if not isinstance(node, ast.ClassDef):
                continue
            owned = getattr(module, node.name, None)
            if not isinstance(owned, type):
                continue
            names = {
                item.attr if isinstance(item, ast.Attribute) else item.name
                for item in ast.walk(node)
                if isinstance(item, ast.Attribute | ast.FunctionDef)
            }
            for base in bases_of(owned):
                for name in names & defined_in(base):
                    yield base, name


@pytest.mark.parametrize(("owner", "name"), LISTED)
def test_the_installed_release_has_the_name(owner: str, name: str) -> None:
    assert name in defined_in(namedAny(owner))


@pytest.mark.slow
def test_no_other_private_names_are_used() -> None:
    unlisted = {
        f"{base.__module__}.{base.__qualname__}.{name}"
        for base, name in used_names()
        if not any(
            name in names and issubclass(base, namedAny(owner)) for owner, names in PRIVATE_NAMES.items()
        )
    }
    assert unlisted == set()


@pytest.mark.slow
def test_every_listed_name_is_used() -> None:
    used = {name for _, name in used_names()}
    assert {name for _, name in LISTED} - used == set()
