"""What callers pass, made JSON.

>>> as_json({"a": 1}, "payload")
{'a': 1}
>>> as_json({1, 2}, "payload")
Traceback (most recent call last):
wonder_ray.errors.PayloadError: payload: value is no JSON: set {1, 2} at $
"""

from __future__ import annotations

from typing import Any

from wonder_ray.errors import PayloadError
from wonder_ray.values import check_json


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
