"""Events and their lines: every class goes into a row and comes back as it was."""

from __future__ import annotations

import datetime as dt
import typing
from enum import Enum
from types import UnionType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wonder_ray import workflow_events as ev
from wonder_ray.decisions import Write
from wonder_ray.errors import HistoryConflictError
from wonder_ray.state import ErrorRecord

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INTS = st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: INTS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    Any: JSON,
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    origin, given_types = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin in {typing.Union, UnionType}:
        return st.one_of([values(option) for option in given_types])
    if origin is list:
        return st.lists(values(given_types[0]), max_size=3)
    if origin is tuple and given_types[-1] is not Ellipsis:
        return st.tuples(*map(values, given_types))
    if origin is tuple:
        return st.lists(values(given_types[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(given_types[0]), values(given_types[1]), max_size=3)
    return st.sampled_from(hint) if issubclass(hint, Enum) else structs(hint)


def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Structs of a class, with any values in their fields."""
    return st.builds(cls, **{name: values(hint) for name, hint in typing.get_type_hints(cls).items()})


STAMPS = st.builds(ev.Stamp, st.integers(1, 2**53), st.integers(1, 2**53), st.integers(0, 2**53), st.integers(1, 2**31))
EVERY = sorted(ev.EVENT_TYPES.items())


@pytest.mark.parametrize(("name", "cls"), EVERY, ids=[name for name, _ in EVERY])
def test_every_event_comes_back_from_its_line(name: str, cls: type[ev.WorkflowEvent]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(event=structs(cls), stamp=STAMPS)
    def holds(event: ev.WorkflowEvent, stamp: ev.Stamp) -> None:
        line = ev.encode_line(event, stamp)
        row = msgspec.json.decode(line)
        assert b"\n" not in line
        assert ev.decode_event(row) == event
        assert (row["event_type"], ev.event_type(event)) == (name, name)
        assert tuple(row[field] for field in ("sequence_number", "turn", "turn_now", "epoch")) == stamp
        assert row["timestamp"] == stamp.turn_now
        assert ev.encode_line(ev.decode_event(row), stamp) == line

    holds()


@settings(max_examples=60, deadline=None)
@given(event=st.sampled_from([cls for _, cls in EVERY]).flatmap(structs), stamp=STAMPS)
def test_a_row_with_nulls_for_what_is_absent_means_the_same(event: ev.WorkflowEvent, stamp: ev.Stamp) -> None:
    row = msgspec.json.decode(ev.encode_line(event, stamp))
    full = dict.fromkeys((*ev.COLUMNS, "metadata")) | row | {"timestamp": dt.datetime.now(dt.UTC)}
    assert ev.decode_event(full) == event


def test_every_field_is_a_column_or_metadata_and_every_name_is_spelled_as_the_rule_says() -> None:
    for name, cls in EVERY:
        assert "metadata" not in cls.__struct_fields__
        if not name.startswith("node_"):  # two names of old stand as they were
            category, _, action = name.partition(".")
            assert category.replace("_", "").isalpha()
            assert action.replace("_", "").isalpha()
        assert cls.__doc__
        assert cls.__doc__.startswith("After "), cls


def test_defaults_are_left_out_of_a_line() -> None:
    event = ev.TokenCompleted(token_id="t", node_id="n", path_id="root")
    row = msgspec.json.decode(ev.encode_line(event, ev.Stamp(1, 1, 5, 1)))
    assert row.keys() == {
        *("sequence_number", "turn", "turn_now", "epoch", "timestamp", "event_type"),
        *("token_id", "node_id", "path_id"),
    }


def test_an_event_of_a_newer_release_is_named() -> None:
    with pytest.raises(HistoryConflictError, match=r"event 7: unknown type 'gate\.painted'"):
        ev.decode_event({"sequence_number": 7, "event_type": "gate.painted"})


def test_structs_that_events_hold_keep_their_values() -> None:
    error = ErrorRecord("T", "m", retryable=False, kind="lost", node_id="n")
    for event in (
        ev.WorkflowFailed(error=error, message="m"),
        ev.ContextUpdated(scope_id="s", write=Write("state.x", [1, None], "set")),
    ):
        assert ev.decode_event(msgspec.json.decode(ev.encode_line(event, ev.Stamp(1, 1, 1, 1)))) == event
