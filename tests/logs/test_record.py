"""Lines: whatever is put into one comes out bounded, storable and still telling."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.logs.record import (
    LEVELS,
    MESSAGE_CHARS_MAX,
    METADATA_CHARS_MAX,
    NAME_CHARS_MAX,
    SERVICES,
    STACK_CHARS_MAX,
    LogLine,
    bounded,
    dropped_line,
    metadata_text,
    truncate,
    truncate_middle,
)

ANY_TEXT = st.text(st.characters(codec=None, categories=None, exclude_categories=()), max_size=200)


def line_of(**columns: Any) -> LogLine:
    return LogLine(**{"timestamp": 1, "level": "info", "service": "http", "event_type": "x", **columns})


@given(st.text(max_size=300), st.integers(40, 200))
def test_truncated_text_keeps_its_beginning_and_says_how_much_was_cut(text: str, chars_max: int) -> None:
    result = truncate(text, chars_max)
    assert len(result) <= chars_max
    if len(text) <= chars_max:
        assert result == text
    else:
        head, _, note = result.rpartition(" [")
        assert text.startswith(head)
        assert int(note.split()[0]) == len(text) - len(head)
    assert truncate(result, chars_max) == result


@given(st.text(min_size=300, max_size=600), st.integers(60, 200))
def test_truncated_stacks_keep_both_ends(text: str, chars_max: int) -> None:
    result = truncate_middle(text, chars_max)
    assert len(result) <= chars_max
    assert result[:5] == text[:5]
    assert result[-10:] == text[-10:]


@given(message=ANY_TEXT, stack=ANY_TEXT, metadata=ANY_TEXT, name=ANY_TEXT)
def test_any_text_becomes_storable(message: str, stack: str, metadata: str, name: str) -> None:
    line = bounded(line_of(message=message, error_stack=stack, metadata=metadata, node_id=name))
    for text in (line.message, line.error_stack, line.node_id, line.metadata):
        assert text is not None
        assert "\0" not in text
        text.encode()
    json.loads(line.metadata or "")
    assert bounded(line) is line


def test_long_fields_are_cut_to_their_limits() -> None:
    text = "é\0" * 100_000
    line = bounded(line_of(message=text, error_stack=text, metadata=text, trace_id=text, event_type=text))
    assert len(line.message) <= MESSAGE_CHARS_MAX
    assert len(line.error_stack or "") <= STACK_CHARS_MAX
    assert len(line.metadata or "") <= METADATA_CHARS_MAX
    assert len(line.trace_id or "") <= NAME_CHARS_MAX
    assert len(line.event_type) <= NAME_CHARS_MAX
    assert "characters cut]" in line.message
    assert json.loads(line.metadata or "")["cut_chars"] > 190_000


@pytest.mark.parametrize(("given_level", "stored"), [("warn", "warning"), ("FATAL", "critical"), ("loud", "info"), (7, "info")])
def test_unknown_levels_become_known_ones(given_level: Any, stored: str) -> None:
    assert bounded(line_of(level=given_level)).level == stored


def test_unknown_services_and_texts_of_other_types_are_mended() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    line = bounded(line_of(service="mail", message=7, event_type=Broken(), node_id=["n"]))
    assert (line.service, line.message, line.event_type, line.node_id) == ("logs", "7", "<unprintable Broken>", "['n']")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        ({1}, "{1}"),
        (2**70, 2**70),
        (b"raw", "b'raw'"),
        ((1, 2), [1, 2]),
        ({3: "three"}, {"3": "three"}),
        ("\ud800", "\\ud800"),
    ],
)
def test_metadata_of_any_value_is_json(value: Any, seen: Any) -> None:
    assert json.loads(metadata_text({"value": value}) or "")["value"] == seen


def test_metadata_of_cycles_and_broken_values_is_json() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    cycle: list[Any] = []
    cycle.append(cycle)
    found = json.loads(metadata_text({"cycle": cycle, "broken": Broken(), "many": [0] * 10**5}) or "")
    assert found
    assert metadata_text({}) is None


def test_the_report_of_dropped_lines_counts_per_service() -> None:
    report = dropped_line(line_of(host="h", pid=3), {"http": 2, "executor": 5}, "full")
    assert (report.event_type, report.level, report.host, report.pid) == ("log_lines_dropped", "warning", "h", 3)
    assert json.loads(report.metadata or "") == {"dropped": 7, "by_service": {"http": 2, "executor": 5}, "reason": "full"}


def test_lines_survive_the_wire() -> None:
    line = line_of(message="é", attempt=2, metadata="{}")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([line]), type=list[LogLine]) == [line]


def test_the_services_and_levels_are_those_of_the_specification() -> None:
    assert SERVICES == ("coordinator", "executor", "resources", "http", "events", "logs")
    assert LEVELS == ("debug", "info", "warning", "error", "critical")
