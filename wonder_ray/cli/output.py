r"""What all commands print alike: JSON, times, durations, and other people's text made safe for a terminal.

>>> duration(3_725_000)
'1 h 2 min'
>>> safe("red \x1b[31m")
'red \\x1b[31m'
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

import typer

from wonder_ray.errors import WonderError
from wonder_ray.values import encode_trusted

_MS_OF_SECOND: Final = 1_000
_SECONDS_OF_MINUTE: Final = 60
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
_SPANS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    typer.echo(json_text(value))


def json_text(value: object) -> str:
    """A value that came out of the storage, as compact JSON."""
    return encode_trusted(value).decode()


def warn(text: str) -> None:
    """A line on stderr."""
    typer.echo(f"wonder: {text}", err=True)


def safe(text: str, chars_max: int | None = None) -> str:
    """One printable line: control characters, which could steer a terminal, are written out; cut at `chars_max`."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if chars_max is None or len(text) <= chars_max else text[: chars_max - 1] + "…"


def short(value: Any, chars_max: int = 200) -> str:
    """A JSON value on one line."""
    return safe(json_text(value), chars_max)


def counted(number: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "live run"), counted(1_200, "event")
    ('1 live run', '1,200 events')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def when(us: int | None) -> str:
    """A time as people read it, UTC.

    >>> when(1_700_000_000_123_456)
    '2023-11-14 22:13:20.123Z'
    """
    if us is None:
        return "-"
    moment = dt.datetime.fromtimestamp(us / 1_000_000, dt.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def duration(ms: float | None) -> str:
    """A duration as people read it.

    >>> [duration(ms) for ms in (None, 0.25, 12, 3_200, 61_000)]
    ['-', '0.25 ms', '12 ms', '3.2 s', '1 min 1 s']
    """
    if ms is None:
        return "-"
    if ms < _MS_OF_SECOND:
        return f"{ms:.3g} ms"
    seconds = ms / _MS_OF_SECOND
    if seconds < _SECONDS_OF_MINUTE:
        return f"{seconds:.1f} s"
    whole, parts = round(seconds), []
    for unit, size in _UNITS:
        if whole >= size:
            parts.append(f"{whole // size} {unit}")
            whole %= size
    if whole:
        parts.append(f"{whole} s")
    return " ".join(parts[:2])


def parse_time(text: str, now_us: int) -> int:
    """What `--since` and `--until` say, in microseconds UTC: a span before now, or an ISO time (UTC unless it says so).

    Raises:
        WonderError: It is neither.

    >>> parse_time("1h", 3_600_000_000), parse_time("2023-11-14T22:13:20", 0)
    (0, 1700000000000000)
    """
    match = _SPAN.fullmatch(text.strip().lower())
    if match and match[2] in _SPANS:
        return now_us - round(float(match[1]) * _SPANS[match[2]] * 1_000_000)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        msg = f"{text!r} is no time: say how long ago (90s, 15m, 1h, 2d) or when (2026-11-23, 2026-11-23T10:00, UTC)"
        raise WonderError(msg) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1_000_000)
