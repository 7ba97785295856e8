from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.errors import PayloadError
from wonder_ray.executor.results import encode_result

numpy = pytest.importorskip("numpy")


def encoded(value: object) -> Any:
    return json.loads(encode_result(value, node_id="n", bytes_max=10**7))


@dataclasses.dataclass
class Point:
    x: int
    more: tuple[int, ...] = ()


class Struct(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    when: dt.date
    point: Point


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - the untyped kind is what is tested

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def disguised(value: Any) -> Any:
    """The same JSON value in types that have to be converted."""
    if isinstance(value, list):
        return tuple(map(disguised, value))
    if isinstance(value, dict):
        return OrderedDict((key, disguised(item)) for key, item in value.items())
    if isinstance(value, bool):
        return numpy.bool_(value)
    if isinstance(value, float):
        return numpy.float64(value)
    return value


@given(JSON)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    assert encoded(value) == value


@given(JSON)
def test_types_that_mean_a_json_value_become_it(value: Any) -> None:
    assert encoded(disguised(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, (2, 3)), {"x": 1, "more": [2, 3]}),
        ([Struct(1)], [{"x": 1}]),
        (Model(when=dt.date(2026, 1, 2), point=Point(1)), {"when": "2026-01-02", "point": {"x": 1, "more": []}}),
        (Color.RED, "red"),
        ({Color.RED: Level.LOW}, {"red": 1}),
        (Pair(1, 2), [1, 2]),
        (numpy.int64(7), 7),
        (numpy.float32(0.5), 0.5),
        (numpy.array(3), 3),
        (numpy.str_("s"), "s"),
        (True, True),
        (None, None),
    ],
)
def test_conversions(value: object, expected: object) -> None:
    assert encoded(value) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({1, 2}, r"set at \$"),
        ({"a": [0, b"x"]}, r"bytes at \$\.a\[1\]"),
        ({1: "x"}, r"key 1 \(int; keys are strings\) at \$"),
        (math.nan, r"nan at \$"),
        ([math.inf], r"inf at \$\[0\]"),
        (numpy.float64("nan"), r"nan at \$"),
        (numpy.zeros(3), r"numpy\.ndarray at \$"),
        (Decimal(1), r"decimal\.Decimal at \$"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), r"datetime\.datetime at \$"),
        (Point, r"type at \$"),
        (print, r"builtin_function_or_method at \$"),
        ((n for n in "ab"), r"generator at \$"),
        (numpy.longdouble(1), "longdouble"),
        (1j, "complex"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(value: object, found: str) -> None:
    with pytest.raises(PayloadError, match=f"node 'n': the result is no JSON: .*{found}"):
        encoded(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(PayloadError, match="nesting deeper"):
        encoded(value)
