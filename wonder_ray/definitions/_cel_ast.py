"""The checked syntax tree of a CEL expression, read from the bytes the CEL library serializes it to.

The library shows no tree, but what it serializes is the public protobuf message `cel.expr.CheckedExpr` (inside an `Any`). A few
lines of wire format are enough to read it, and save a dependency on protobuf and its import time. The tree answers exactly, where
a second parser of the text would guess: is this a plain path or literal, which parts of the variables are used, and can the value
outgrow all memory.

`order_maps` rewrites a tree so that comprehensions walk maps in the order of their sorted keys. The C++ runtime walks them in the
order of a hash table that is seeded anew in each process: `state.m.map(k, k)` gave another list after each restart.
"""

# ruff: noqa: PLR2004 - field numbers of the protobuf messages, named in the comments beside
from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ORDERED = "wonder_ordered"
"""Name of the function that `order_maps` wraps around the range of a comprehension: a map's sorted keys."""

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_ID, _CONST, _IDENT, _SELECT, _CALL, _LIST, _MAP, _COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
_CHILDREN: Final = MappingProxyType({_SELECT: {1}, _CALL: {1, 3}, _LIST: {1}, _COMPREHENSION: {2, 4, 5, 6, 7}})
_RANGE = 2
_FIRST_NEW_ID = 1_000_000  # beyond any id in a text of 4 KiB
SCALAR_CALLS = frozenset(
    [
        "_==_",
        "_!=_",
        "_<_",
        "_<=_",
        "_>_",
        "_>=_",
        "_&&_",
        "_||_",
        "!_",
        "@in",
        "@not_strictly_false",
        "size",
        "matches",
        "contains",
        "startsWith",
        "endsWith",
        "type",
    ]
)

Field: TypeAlias = tuple[int, int, "int | bytes"]


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `kind` is the CEL type (`null bool int uint double string other`)."""

    kind: str
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Ident:
    """A name; a leading dot (`.state`) means the outermost one."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test_only`."""

    operand: Node
    field: str
    test_only: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator (`_+_`, `_[_]`); the receiver of a method is the first of `args`."""

    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value}`; `message` is the type's name when it builds a protobuf message instead."""

    message: str
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What `all`, `exists`, `exists_one`, `map` and `filter` expand to."""

    variables: tuple[str, ...]
    range: Node
    start: Node
    condition: Node
    step: Node
    result: Node


Node: TypeAlias = "Const | Ident | Select | Call | ListOf | MapOf | Comprehension"


def parse(serialized: bytes) -> Node:
    """The tree of a serialized expression."""
    checked = _one(serialized, 2)
    return _node(_one(checked, 4))


def order_maps(serialized: bytes) -> bytes:
    """The same expression with every comprehension range `r` as `type(r) == type({}) ? wonder_ordered(r) : r`."""
    return _map_children(serialized, 2, lambda checked: _map_children(checked, 4, _ordered))


def growth(node: Node) -> int:
    """How many times over a value may hold what went into it, at the largest place of the tree (1 for a path, 2 for `s + s`).

    Chained comprehensions multiply it (`.map(s, s + s)` thirty times is 2**30), which no iteration budget counts.
    """
    peak = 1

    def size(node: Node, names: Mapping[str, int]) -> int:
        nonlocal peak
        found = _size(node, names)
        peak = max(peak, found)
        return found

    def _size(node: Node, names: Mapping[str, int]) -> int:
        match node:
            case Ident(name):
                return names.get(name, 1)
            case Select(operand):
                return size(operand, names)
            case ListOf(items):
                return sum(size(item, names) for item in items)
            case MapOf(_, entries):
                return sum(size(part, names) for entry in entries for part in entry)
            case Comprehension():
                inner = dict.fromkeys(node.variables, size(node.range, names))
                inner[node.variables[-1]] = size(node.start, names)
                inner[node.variables[-1]] = size(node.step, {**names, **inner})
                return size(node.result, {**names, **inner})
            case Call(function, args):
                sizes = [size(arg, names) for arg in args]
                if function == "_[_]":
                    return sizes[0]
                return 1 if function in SCALAR_CALLS else sum(sizes) if function == "_+_" else max(sizes, default=1)
        return 1

    size(node, {})
    return peak


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Select(operand):
            return (operand,)
        case Call(_, args):
            return args
        case ListOf(items):
            return items
        case MapOf(_, entries):
            return tuple(part for entry in entries for part in entry)
        case Comprehension():
            return (node.range, node.start, node.condition, node.step, node.result)
    return ()


def _node(data: bytes) -> Node:
    for field, _, value in _fields(data):
        if field == _ID or not isinstance(value, bytes):
            continue
        if field == _CONST:
            return _const(value)
        if field == _IDENT:
            return Ident(_text(value, 1))
        if field == _SELECT:
            return Select(_node(_one(value, 1)), _text(value, 2), any(f == 3 and v for f, _, v in _fields(value)))
        if field == _CALL:
            return Call(_text(value, 2), tuple(_node(arg) for arg in [*_all(value, 1), *_all(value, 3)]))
        if field == _LIST:
            return ListOf(tuple(_node(item) for item in _all(value, 1)))
        if field == _MAP:
            return MapOf(_text(value, 1), tuple(_entry(entry) for entry in _all(value, 2)))
        if field == _COMPREHENSION:
            variables = tuple(name for name in (_text(value, 1), _text(value, 8), _text(value, 3)) if name)
            return Comprehension(variables, *(_node(_one(value, part)) for part in (2, 4, 5, 6, 7)))
    return Const("other", None)


def _const(data: bytes) -> Const:
    for field, _, value in _fields(data):
        if isinstance(value, bytes):
            if field == 5:
                return Const("double", struct.unpack("<d", value)[0])
            return Const("string", value.decode()) if field == 6 else Const("other", None)
        if field == 1:
            return Const("null", None)
        if field == 2:
            return Const("bool", bool(value))
        if field == 3:
            return Const("int", value - (1 << 64) if value >= 1 << 63 else value)
        if field == 4:
            return Const("uint", value)
    return Const("other", None)


def _entry(data: bytes) -> tuple[Node, Node]:
    keys = _all(data, 3)
    return (_node(keys[0]) if keys else Const("string", _text(data, 2))), _node(_one(data, 4))


def _ordered(expr: bytes) -> bytes:
    out: list[Field] = []
    for field, wire, value in _fields(expr):
        if field == _MAP and isinstance(value, bytes):
            out.append(
                (
                    field,
                    wire,
                    _map_children(value, 2, lambda entry: _map_children(_map_children(entry, 3, _ordered), 4, _ordered)),
                )
            )
        elif field in _CHILDREN and isinstance(value, bytes):
            for child in _CHILDREN[field]:
                value = _map_children(value, child, _ordered)  # noqa: PLW2901 - the one value, rewritten child by child
            out.append((field, wire, _map_children(value, _RANGE, _sorted_if_map) if field == _COMPREHENSION else value))
        else:
            out.append((field, wire, value))
    return _encode(out)


def _sorted_if_map(expr: bytes) -> bytes:
    """`type(r) == type({}) ? wonder_ordered(r) : r`; a range that is no path (dear to evaluate twice) is always passed through.

    What is surely a list (a literal, another comprehension) stays as it is.
    """
    kind = next((field for field, _, value in _fields(expr) if field in _CHILDREN or field == _MAP), _IDENT)
    if kind in (_LIST, _COMPREHENSION):
        return expr
    ordered = _call(1, ORDERED, expr)
    if not is_path(_node(expr)):
        return ordered
    empty = _encode([(_ID, _VARINT, _FIRST_NEW_ID + 4), (_MAP, _BYTES, b"")])
    is_map = _call(2, "_==_", _call(3, "type", expr), _call(5, "type", empty))
    return _call(6, "_?_:_", is_map, ordered, expr)


def is_path(node: Node) -> bool:
    """Whether it is cheap to evaluate twice: names, keys and indices only."""
    return all(
        isinstance(part, (Ident, Select, Const)) or (isinstance(part, Call) and part.function == "_[_]") for part in walk(node)
    )


def _call(number: int, function: str, *args: bytes) -> bytes:
    fields: list[Field] = [(2, _BYTES, function.encode()), *((3, _BYTES, arg) for arg in args)]
    return _encode([(_ID, _VARINT, _FIRST_NEW_ID + number), (_CALL, _BYTES, _encode(fields))])


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of one protobuf message: number, wire type, value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield field, wire, number
            continue
        size = 8 if wire == _FIXED64 else 4
        if wire == _BYTES:
            size, at = _varint(data, at)
        yield field, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encode(fields: Iterable[Field]) -> bytes:
    out = bytearray()
    for field, wire, value in fields:
        _put(out, field << 3 | wire)
        if isinstance(value, int):
            _put(out, value)
            continue
        if wire == _BYTES:
            _put(out, len(value))
        out += value
    return bytes(out)


def _put(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _map_children(message: bytes, child: int, change: Callable[[bytes], bytes]) -> bytes:
    return _encode(
        (field, wire, change(value) if field == child and isinstance(value, bytes) else value)
        for field, wire, value in _fields(message)
    )


def _all(message: bytes, number: int) -> list[bytes]:
    return [value for field, _, value in _fields(message) if field == number and isinstance(value, bytes)]


def _one(message: bytes, number: int) -> bytes:
    return next(iter(_all(message, number)), b"")


def _text(message: bytes, number: int) -> str:
    return _one(message, number).decode()
