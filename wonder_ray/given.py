"""What callers pass, made JSON.

>>> as_json({"a": 1}, "payload")
{'a': 1}
>>> as_json({1, 2}, "payload")
Traceback (most recent call last):
wonder_ray.errors.PayloadError: payload: value is no JSON: set {1, 2} at $
"""

from __future__ import annotations

from typing import Any

from wonder_ray.errors import InputError, PayloadError
from wonder_ray.values import check_json, encode_trusted


def as_json(value: object, what: str) -> Any:
    """The value, of a pydantic model its fields; a `PayloadError` that says what it was meant for when it is no JSON."""
    dump = getattr(value, "model_dump", None)
    plain = value if dump is None else dump(mode="json")
    try:
        check_json(plain)
    except PayloadError as error:
        msg = f"{what}: {error}"
        raise PayloadError(msg) from None
    return plain


def encoded_input(name: str, value: object) -> bytes:
    """The input of a run of this workflow, as JSON; an `InputError` when it is none."""
    try:
        return encode_trusted(as_json(value, f"input of workflow {name!r}"))
    except PayloadError as error:
        raise InputError(str(error)) from None
