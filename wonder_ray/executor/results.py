"""Results of user code as JSON: what is meant is taken, what is no JSON is named with its place.

>>> encode_result((1, {"a": None}), node_id="n", bytes_max=100)
b'[1,{"a":null}]'
>>> encode_result({"when": object}, node_id="n", bytes_max=100)
Traceback (most recent call last):
wonder_ray.errors.PayloadError: node 'n': the result is no JSON: type at $.when; return dicts with string keys, ...
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.errors import PayloadError
from wonder_ray.executor.secrets import Secret
from wonder_ray.values import DEPTH_MAX, decode, encode_trusted

if TYPE_CHECKING:
    from wonder_ray.redaction import Redactor

_ADVICE = (
    "return dicts with string keys, lists, strings, finite numbers, booleans and None (dataclasses, pydantic models, tuples and "
    "NumPy scalars are converted), and write anything else to storage and return where it is"
)


def encode_result(value: object, *, node_id: str, bytes_max: int, redactor: Redactor | None = None) -> bytes:
    """The result of a node's action as JSON bytes, without the secrets that `redactor` knows.

    Raises:
        PayloadError: The value is no JSON (the message names node, type and place), or larger than `bytes_max`.
    """
    try:
        data = encode_trusted(to_json(value))
        if redactor is not None and redactor.touches(data):
            data = encode_trusted(redactor.value(decode(data)))
    except _NotJsonError as error:
        raise PayloadError(f"node {node_id!r}: the result is no JSON: {error}; {_ADVICE}") from None
    except UnicodeEncodeError as error:
        raise PayloadError(f"node {node_id!r}: the result is no JSON: a string holds a lone surrogate: {error}") from None
    if len(data) > bytes_max:
        raise PayloadError(
            f"node {node_id!r}: the result has {len(data):,} bytes of JSON; the limit is {bytes_max:,}. "
            "Write it to storage and return where it is, or raise the limit"
        )
    return data


def to_json(value: object) -> Any:
    """The value with only JSON's own types in it; a `_NotJsonError` (a ValueError) that names the place if it has none."""
    return _plain(value, "$", 0)


class _NotJsonError(ValueError):
    pass


def _plain(value: Any, place: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        raise _NotJsonError(f"{value!r} at {place} (JSON has no such number)")
    if depth > DEPTH_MAX:
        raise _NotJsonError(f"nesting deeper than {DEPTH_MAX} at {place[:200]} (or a value that contains itself)")
    if isinstance(value, dict):
        return {_key(key, place): _plain(item, f"{place}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _converted(value, place, depth)


def _key(key: object, place: str) -> str:
    if isinstance(key, str):
        return key if type(key) is str else str.__str__(key)
    raise _NotJsonError(f"key {str(key)[:80]} ({type(key).__name__}; keys are strings) at {place}")


def _converted(value: Any, place: str, depth: int) -> Any:
    """Types that stand for a JSON value; checked last, since most results have none of them."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return _plain(float.__float__(value), place, depth)
    if isinstance(value, Secret):
        return value.reference
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, place, depth)
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value), place, depth)
    if _is_a(value, "pydantic", "BaseModel"):
        return _plain(value.model_dump(mode="json"), place, depth)
    if _is_a(value, "numpy", "generic") or (_is_a(value, "numpy", "ndarray") and value.ndim == 0):
        item = value.item()
        if type(item) is not type(value):  # numpy.longdouble's item is itself
            return _plain(item, place, depth)
    raise _NotJsonError(f"{_type_name(value)} at {place}")


def _is_a(value: object, module: str, name: str) -> bool:
    """Isinstance, without importing a library that user code has not imported: then no value of it can exist."""
    loaded = sys.modules.get(module)
    wanted = None if loaded is None else getattr(loaded, name, None)
    return isinstance(wanted, type) and isinstance(value, wanted)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
