"""Times, durations, and other people's text."""

from __future__ import annotations

import pytest

from wonder_ray.cli.output import duration, parse_time, safe, short, when
from wonder_ray.errors import WonderError

NOW_US = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW_US - 3_600_000_000),
        ("90s", NOW_US - 90_000_000),
        ("1.5d", NOW_US - 129_600_000_000),
        ("15 min", NOW_US - 900_000_000),
        ("200ms", NOW_US - 200_000),
        ("2023-11-14", 1_699_920_000_000_000),
        ("2023-11-14T22:13:20", NOW_US),
        ("2023-11-14T22:13:20Z", NOW_US),
        ("2023-11-14T23:13:20+01:00", NOW_US),
    ],
)
def test_times_are_spans_before_now_or_dates(text: str, expected: int) -> None:
    assert parse_time(text, NOW_US) == expected


@pytest.mark.parametrize("text", ["", "h", "1y", "-1h", "yesterday", "2023-13-01", "1e9d"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(WonderError, match="15m"):
        parse_time(text, NOW_US)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0.0, "0 ms"), (999.4, "999 ms"), (59_940, "59.9 s"), (3_600_000, "1 h"), (90_061_000, "1 d 1 h"), (86_400_000, "1 d")],
)
def test_durations_have_two_units_at_most(ms: float, expected: str) -> None:
    assert duration(ms) == expected


def test_a_missing_time_is_a_dash() -> None:
    assert (when(None), when(0)) == ("-", "1970-01-01 00:00:00.000Z")


def test_text_cannot_steer_the_terminal() -> None:
    assert safe("a\x1b[2Jb\r\nc\u202e") == "a\\x1b[2Jb\\r\\nc\\u202e"
    assert safe("grün ✓") == "grün ✓"
    assert safe("x" * 10, 5) == "xxxx…"
    assert short({"a": "\x07"}) == '{"a":"\\u0007"}'
