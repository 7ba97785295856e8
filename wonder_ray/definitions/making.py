"""Models made of what a user wrote in Python, with errors that name the place.

>>> from wonder_ray.definitions.models import TimerNode
>>> make(TimerNode, "node 'pause'", {"id": "pause", "until": 5})
Traceback (most recent call last):
wonder_ray.errors.DefinitionError: node 'pause', until: Input should be a valid string (it is 5)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_M = TypeVar("_M", bound=BaseModel)


def make(kind: type[_M], where: str, fields: Mapping[str, Any]) -> _M:
    """The model, or a `DefinitionError` that names the field."""
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            msg = f"{where}: unknown setting {field!r}; {did_you_mean(field, list(kind.model_fields))}"
        else:
            msg = f"{where}, {field}: {first['msg']} (it is {repr(first.get('input'))[:80]})"
        raise DefinitionError(msg) from None
