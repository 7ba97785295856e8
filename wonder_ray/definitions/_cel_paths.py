"""Paths in a CEL tree: which parts of which variables are used, and the plain ones evaluated without CEL.

A projection is the part of one variable that an expression can see. `state.a.b > 1 && has(state.c)` sees `{"a": {"b": ...}}` and
whether there is a `c`: what is left out costs no conversion, and what is missing stays missing, so that `has` and errors are as
with the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from wonder_ray.definitions import _cel_ast as ast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Plain: TypeAlias = "Callable[[Mapping[str, Any]], Any]"


class Trouble(ValueError):  # noqa: N818 - internal; becomes an ExpressionError before anyone sees it
    """A plain path met a value that CEL would refuse."""


class Projection:
    """The keys of a variable that are used, and of each the keys below; `whole` where all of the value is used."""

    __slots__ = ("keys", "present_only", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.present_only = False
        self.keys: dict[str, Projection] = {}

    def add(self, path: list[str], *, whole: bool) -> None:
        """Add a use of the value at `path`; not `whole` when only its presence matters."""
        at = self
        for key in path:
            at = at.keys.setdefault(key, Projection())
        at.whole = at.whole or whole
        at.present_only = at.present_only or not whole

    def apply(self, value: Any) -> Any:
        """The visible part; of a value that is no map, all of it, so that errors are as they would be."""
        if self.whole or not isinstance(value, dict):
            return value
        return {key: below.apply_to_item(value[key]) for key, below in self.keys.items() if key in value}

    def apply_to_item(self, value: Any) -> Any:
        """As `apply`; a value of which only the presence matters is passed as null."""
        return self.apply(value) if self.whole or self.keys else None


def roots_and_projections(tree: ast.Node, names: frozenset[str]) -> tuple[frozenset[str], tuple[tuple[str, Projection], ...]]:
    """The variables a tree uses, and what it sees of each, sorted by name."""
    found: dict[str, Projection] = {}
    _collect(tree, names, frozenset(), found)
    return frozenset(found), tuple(sorted(found.items()))


def _collect(node: ast.Node, names: frozenset[str], shadowed: frozenset[str], found: dict[str, Projection]) -> None:
    path: list[str] = []
    whole = True
    at = node
    if isinstance(at, ast.Select) and at.test_only:
        whole, path, at = False, [at.field], at.operand
    while (step := _static_step(at)) is not None:
        key, at = step
        path.append(key)
    if isinstance(at, ast.Ident):
        name = at.name.removeprefix(".")
        if name in names and (at.name not in shadowed):
            found.setdefault(name, Projection()).add(path[::-1], whole=whole)
        return
    if isinstance(at, ast.Comprehension):
        _collect(at.range, names, shadowed, found)
        _collect(at.start, names, shadowed, found)
        for part in (at.condition, at.step, at.result):
            _collect(part, names, shadowed | frozenset(at.variables), found)
        return
    for child in ast.children(at):
        _collect(child, names, shadowed, found)


def static_path(node: ast.Node) -> tuple[str, list[str]] | None:
    """The variable and the keys below it, of a path that names all of its keys; None of anything else."""
    keys: list[str] = []
    while (step := _static_step(node)) is not None:
        key, node = step
        keys.append(key)
    return (node.name.removeprefix("."), keys[::-1]) if isinstance(node, ast.Ident) else None


def _static_step(node: ast.Node) -> tuple[str, ast.Node] | None:
    match node:
        case ast.Select(operand, field, False):
            return field, operand
        case ast.Call("_[_]", (operand, ast.Const("string", str(key)))):
            return key, operand
    return None


def as_python(node: ast.Node) -> Plain | None:
    """The expression as a Python function of the scope; None if it takes CEL to evaluate it."""
    match node:
        case ast.Const(kind, value) if kind in ("null", "bool", "int", "double", "string"):
            return lambda _scope: value
        case ast.Ident(name):
            return _variable(name.removeprefix("."))
        case ast.Select(operand, field, False):
            return _below(as_python(operand), field, _select)
        case ast.Call("_[_]", (operand, ast.Const("string" | "int", (str() | int()) as key))):
            return _below(as_python(operand), key, _index)
        case ast.ListOf(items):
            return _list([as_python(item) for item in items])
        case ast.MapOf("", entries):
            return _map([(as_python(value), key) for key, value in entries])
    return None


def _variable(name: str) -> Plain:
    def read(scope: Mapping[str, Any]) -> Any:
        if name not in scope:
            msg = f"{name!r} has no value here; there are {', '.join(sorted(scope)) or 'none'}"
            raise Trouble(msg)
        return scope[name]

    return read


def _below(operand: Plain | None, key: str | int, get: Callable[[Any, str | int], Any]) -> Plain | None:
    if operand is None:
        return None
    return lambda scope: get(operand(scope), key)


def _list(items: list[Plain | None]) -> Plain | None:
    known = [item for item in items if item is not None]
    if len(known) < len(items):
        return None
    return lambda scope: [item(scope) for item in known]


def _map(entries: list[tuple[Plain | None, ast.Node]]) -> Plain | None:
    known = {
        key.value: value
        for value, key in entries
        if isinstance(key, ast.Const) and isinstance(key.value, str) and value is not None
    }
    if len(known) < len(entries):
        return None
    return lambda scope: {key: value(scope) for key, value in known.items()}


def _select(value: Any, key: str | int) -> Any:
    if not isinstance(value, dict):
        msg = f"{key!r} is selected on {kind_of(value)}, which has no keys"
        raise Trouble(msg)
    return _item(value, key)


def _index(value: Any, key: str | int) -> Any:
    if isinstance(value, dict):
        return _item(value, key)
    if not isinstance(value, list):
        msg = f"[{key!r}] on {kind_of(value)}, which is no map or list"
        raise Trouble(msg)
    if not isinstance(key, int):
        msg = f"a list is indexed by int, not by the string {key!r}"
        raise Trouble(msg)
    if not 0 <= key < len(value):
        msg = f"index {key} is out of range: the list has {len(value)} items"
        raise Trouble(msg)
    return value[key]


def _item(value: dict[Any, Any], key: str | int) -> Any:
    if key not in value:
        msg = f"no key {key!r}; write has(...) to test for it"
        raise Trouble(msg)
    return value[key]


def kind_of(value: Any) -> str:
    """What CEL calls the type of a JSON value."""
    if value is None:
        return "null"
    names = {bool: "a bool", int: "an int", float: "a double", str: "a string", list: "a list", dict: "a map"}
    return names.get(type(value), type(value).__name__)
