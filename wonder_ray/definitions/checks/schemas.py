"""The JSON Schema of a run's input: whether it is one, and whether any value could satisfy it."""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from wonder_ray.errors import PayloadError
from wonder_ray.values import check_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey

_RANGES = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
)
_OPEN_RANGES = (("exclusiveMinimum", "exclusiveMaximum"), ("exclusiveMinimum", "maximum"), ("minimum", "exclusiveMaximum"))
_BROKEN_MAX = 50
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
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "null": (type(None),),
        "boolean": (bool,),
        "string": (str,),
        "array": (list,),
        "object": (dict,),
        "number": (int, float),
        "integer": (int, float),
    }
)


def check_schema(survey: Survey) -> None:
    """Note what is wrong with the schema of the workflow's input."""
    schema = survey.definition.input
    if schema is None:
        return
    try:
        check_json(schema)
    except PayloadError as error:
        survey.add(("input",), str(error), "use JSON values only")
        return
    broken = _broken(schema)
    for place, message, mend in broken or _contradictions(schema, ("input",)):
        survey.add(place, message, mend)
    if not broken:
        for place, ref in _dangling(schema, schema, ("input",)):
            mend = "point to a part of this schema, such as #/$defs/Page"
            survey.add((*place, "$ref"), f"{ref[:80]!r} points to nothing in this schema", mend)


def _broken(schema: dict[str, Any]) -> list[tuple[Place, str, str]]:
    """What the meta-schema says against it."""
    from jsonschema import Draft202012Validator  # 60 ms, and few definitions have a schema

    dialect = schema.get("$schema", "")
    if dialect and "2020-12" not in str(dialect):
        mend = "write it in draft 2020-12, or leave $schema out"
        return [(("input", "$schema"), f"{str(dialect)[:80]!r} is another dialect of JSON Schema", mend)]
    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    return [
        (("input", *error.absolute_path), error.message[:200], "see JSON Schema draft 2020-12")
        for error in islice(found, _BROKEN_MAX)
    ]


def _contradictions(schema: Any, place: Place) -> Iterator[tuple[Place, str, str]]:
    """Keywords of one schema that no value can satisfy together, here and below (not in `not` and `if`)."""
    if not isinstance(schema, dict):
        return
    yield from _ranges(schema, place)
    yield from _values(schema, place)
    yield from _properties(schema, place)
    for at, below in _below(schema, place):
        yield from _contradictions(below, at)


def _below(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, Any]]:
    for key in _ONE_BELOW:
        if key in schema:
            yield (*place, key), schema[key]
    for key in _MANY_BELOW:
        for name, below in schema.get(key, {}).items():
            yield (*place, key, name), below
    for key in _LIST_BELOW:
        for i, below in enumerate(schema.get(key, [])):
            yield (*place, key, i), below


def _ranges(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, str, str]]:
    for low, high in _RANGES:
        if low in schema and high in schema and schema[low] > schema[high]:
            yield (*place, low), f"{low} {schema[low]} is more than {high} {schema[high]}", "swap or correct them"
    for low, high in _OPEN_RANGES:
        if low in schema and high in schema and schema[low] >= schema[high]:
            yield (*place, low), f"no number lies between {low} {schema[low]} and {high} {schema[high]}", "correct them"


def _values(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, str, str]]:
    types = _types(schema)
    if schema.get("enum") == []:
        yield (*place, "enum"), "an empty enum allows no value", "list the allowed values, or remove it"
    for i, value in enumerate(schema.get("enum", [])):
        if types and not _is_of(value, types):
            yield (*place, "enum", i), f"{_text(value)} is no {' or '.join(types)}", "correct the value or the type"
    if "const" in schema:
        if types and not _is_of(schema["const"], types):
            yield (*place, "const"), f"{_text(schema['const'])} is no {' or '.join(types)}", "correct the value or the type"
        if "enum" in schema and not any(_same(schema["const"], value) for value in schema["enum"]):
            yield (*place, "const"), f"{_text(schema['const'])} is not in enum", "keep one of the two"
    both = [set(_types(below)) for below in schema.get("allOf", []) if isinstance(below, dict) and _types(below)]
    both += [set(types)] if types else []
    if len(both) > 1 and not set.intersection(*map(_widened, both)):
        yield (*place, "allOf"), "its parts demand types that exclude each other", "use anyOf, or one type"


def _properties(schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, str, str]]:
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    closed = closed and not schema.get("patternProperties")  # matching a stranger's patterns could take for ever
    for i, name in enumerate(schema.get("required", [])):
        at = (*place, "required", i)
        if properties.get(name) is False:
            yield at, f"{name!r} is required, and its schema is false", "remove it from required, or give it a schema"
        elif closed and name not in properties:
            message = f"{name!r} is required, and additionalProperties: false forbids it"
            yield at, message, "add it to properties, or remove it from required"
    wanted = len(schema.get("required", []))
    if wanted > schema.get("maxProperties", wanted):
        yield (*place, "maxProperties"), f"{wanted} properties are required, and maxProperties is less", "raise it"


def _types(schema: dict[str, Any]) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _widened(types: set[str]) -> set[str]:
    return types | {"integer"} if "number" in types else types


def _is_of(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, float) and not value.is_integer() and "number" not in types:
        return False
    return any(isinstance(value, _PYTHON_TYPES[name]) for name in types if name != "boolean")


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _text(value: Any) -> str:
    return repr(value)[:80]


def _dangling(schema: Any, root: dict[str, Any], place: Place) -> Iterator[tuple[Place, str]]:
    """References that lead nowhere; other documents are never fetched, so they count."""
    if not isinstance(schema, dict):
        return
    ref = schema.get("$ref")
    if isinstance(ref, str) and not _resolves(ref, root):
        yield place, ref
    for key in ("not", "if"):
        if key in schema:
            yield from _dangling(schema[key], root, (*place, key))
    for at, below in _below(schema, place):
        yield from _dangling(below, root, at)


def _resolves(ref: str, root: dict[str, Any]) -> bool:
    if not ref.startswith("#"):
        return "$id" in root  # relative to an id: not ours to judge
    if ref == "#" or not ref.startswith("#/"):
        return True
    at: Any = root
    for part in ref[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isdigit() and int(key) < len(at):
            at = at[int(key)]
        else:
            return False
    return True
