"""JSON values: what inputs, results, items and context hold, and how they become bytes.

>>> decode(encode({"a": [1, None, "x"]}))
{'a': [1, None, 'x']}
>>> encode(float("nan"))
Traceback (most recent call last):
wonder_ray.errors.PayloadError: value is no JSON: nan at $
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from wonder_ray.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="sorted")
DEPTH_MAX = 64


def decode(data: bytes | str) -> Any:
    """The value of a JSON text; a `PayloadError` when it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not a JSON text: {error}"
        raise PayloadError(msg) from None


def encode(value: object) -> bytes:
    """A JSON value as compact UTF-8 bytes; a `PayloadError` that names the place when it is no JSON value."""
    check_json(value)
    return _encoder.encode(value)


def encode_trusted(value: object) -> bytes:
    """`encode` for values that were checked when they came in: no second walk over them."""
    return _encoder.encode(value)


def canonical(value: object) -> bytes:
    """One and the same bytes for equal JSON values (keys sorted): what hashes are taken of."""
    check_json(value)
    return _canonical.encode(value)


def own(value: Any) -> Any:
    """A deep copy of a JSON value: state owns what it holds, so that no later write can reach it through an alias."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _decoder.decode(_encoder.encode(value))


def check_json(value: object) -> None:
    """Raise a `PayloadError` that names the place if this is no JSON value (NaN, a set, a non-string key, too deep)."""
    for place, found in _foreign(value, "$", 0):
        msg = f"value is no JSON: {found} at {place}"
        raise PayloadError(msg)


def _foreign(value: object, place: str, depth: int) -> Iterator[tuple[str, str]]:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type] # narrowed by kind, which mypy does not follow
            yield place, repr(value)
    elif depth >= DEPTH_MAX:
        yield place, f"nesting deeper than {DEPTH_MAX}"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _foreign(item, f"{place}[{i}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield place, f"key {key!r} ({type(key).__name__}; keys are strings)"
            yield from _foreign(item, f"{place}.{key}", depth + 1)
    else:
        yield place, f"{type(value).__name__} {repr(value)[:80]}"
