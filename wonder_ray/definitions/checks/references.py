"""What stands below in a JSON Schema, what its references lead to, and schemas that following them never gets to an end of.

A reference that is followed at the same value (through `$ref`, `allOf`, `anyOf`, ...) and comes back to where it began is
followed for ever; and two references to one schema, thirty times one below the other, are followed 2**30 times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.limits import REFERENCES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.definitions.checks.problems import Place

MISSING: Final = object()
_ONE_BELOW = (
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "then",
    "else",
)
_MANY_BELOW = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LIST_BELOW = ("allOf", "anyOf", "oneOf", "prefixItems")
_NEGATIVE = ("not", "if")
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")


def below(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, Any]]:
    """The schemas directly below that a value must satisfy, or may have to (so not `not` and `if`)."""
    for key in _ONE_BELOW:
        if key in schema:
            yield (*place, key), schema[key]
    for key in _MANY_BELOW:
        for name, inner in schema.get(key, {}).items():
            yield (*place, key, name), inner
    for key in _LIST_BELOW:
        for i, inner in enumerate(schema.get(key, [])):
            yield (*place, key, i), inner


def every_below(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, Any]]:
    """All schemas directly below."""
    yield from below(schema, place)
    for key in _NEGATIVE:
        if key in schema:
            yield (*place, key), schema[key]


def resolve(ref: str, root: dict[str, Any]) -> Any:
    """What a JSON Pointer in a fragment (`#/$defs/Page`) leads to; `MISSING` where that is nothing.

    >>> resolve("#/$defs/a~1b/0", {"$defs": {"a/b": [5]}})
    5
    """
    at: Any = root
    for part in ref[2:].split("/") if ref.startswith("#/") else ():
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isdigit() and int(key) < len(at):
            at = at[int(key)]
        else:
            return MISSING
    return at


def endless(schema: dict[str, Any]) -> Iterator[tuple[Place, str, str]]:
    """The first schema that would be looked at for ever, or too often, to judge one value.

    >>> [place for place, _, _ in endless({"anyOf": [{"type": "null"}, {"$ref": "#"}]})]
    [()]
    """
    costs: dict[int, int] = {}
    under_way: set[int] = set()
    for place, start in _walk(schema):
        stack = [start]
        while stack:
            at = id(stack[-1])
            inner = [] if at in costs else _same_value(stack[-1], schema)
            if at in costs:
                stack.pop()
            elif at not in under_way:
                under_way.add(at)
                stack += [each for each in inner if id(each) not in costs]
                if any(id(each) in under_way and id(each) not in costs for each in inner):
                    yield (
                        place,
                        "it refers to itself at the same value: judging one would never end",
                        "refer to it below a property",
                    )
                    return
            else:
                costs[at] = 1 + sum(costs[id(each)] for each in inner)
                if costs[at] > REFERENCES_MAX:
                    message = (
                        f"judging one value would look at more than {REFERENCES_MAX:,} schemas, since each refers to several"
                    )
                    yield place, message, "refer to each part once"
                    return


def _walk(schema: Any, place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield place, schema
        for at, inner in every_below(schema, place):
            yield from _walk(inner, at)


def _same_value(schema: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a value is judged by when it is judged by this one."""
    found: list[Any] = []
    for key in _SAME_VALUE:
        inner = schema.get(key)
        if isinstance(inner, list):
            found += inner
        elif isinstance(inner, dict):
            found += inner.values() if key == "dependentSchemas" else [inner]
    ref = schema.get("$ref")
    if isinstance(ref, str) and (ref == "#" or ref.startswith("#/")):
        found.append(resolve(ref, root))
    return [each for each in found if isinstance(each, dict)]
