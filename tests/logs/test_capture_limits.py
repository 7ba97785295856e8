"""Limits of captured output: what is kept is a beginning, what is not is counted, and memory stays flat."""

# ruff: noqa: T201 - printing is what is tested

from __future__ import annotations

import itertools
import json
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.logs._streams import LineAssembler
from wonder_ray.logs.capture import CaptureLimits, capture_output
from wonder_ray.logs.client import ClientLimits, LogClient

if TYPE_CHECKING:
    import logging

    from wonder_ray.logs.record import LogLine

MEGABYTE = 1024 * 1024


def messages(lines: list[LogLine], event_type: str = "stdout") -> list[str]:
    return [line.message for line in lines if line.event_type == event_type]


def test_what_is_over_the_limits_is_counted_and_reported_once(lines: list[LogLine]) -> None:
    with capture_output(lines.append, limits=CaptureLimits(lines_max=3)):
        for n in range(10):
            print(n)
        print("error", file=sys.stderr)
    assert messages(lines) == ["0", "1", "2"]
    assert messages(lines, "stderr") == []
    (report,) = [line for line in lines if line.event_type == "output_truncated"]
    assert lines[-1] == report
    assert report.level == "warning"
    counts = json.loads(report.metadata or "")
    assert (counts["lines_dropped"], counts["chars_dropped"], counts["lines_max"]) == (8, 7 + 5, 3)


def test_long_lines_are_cut(lines: list[LogLine]) -> None:
    with capture_output(lines.append, limits=CaptureLimits(line_chars_max=10)) as capture:
        print("x" * 25)
        print("short")
    assert messages(lines) == ["x" * 10 + " [15 characters cut]", "short"]
    assert (capture.lines_dropped, capture.chars_dropped) == (0, 15)
    assert lines[-1].event_type == "output_truncated"


def test_bytes_are_limited_over_all_lines(lines: list[LogLine]) -> None:
    with capture_output(lines.append, limits=CaptureLimits(bytes_max=100)):
        for _ in range(50):
            print("é" * 10)  # 20 bytes
    assert len(messages(lines)) == 5


def test_a_flood_of_prints_does_not_hide_an_error_that_is_logged(lines: list[LogLine], user_logger: logging.Logger) -> None:
    with capture_output(lines.append, limits=CaptureLimits(lines_max=2)):
        for n in range(10):
            print(n)
        for n in range(5):
            user_logger.error("error %d", n)
    assert messages(lines, "log") == ["error 0", "error 1"]
    assert len(messages(lines, "output_truncated")) == 1
    assert "11 lines" in lines[-1].message


@given(
    pieces=st.lists(st.text(st.sampled_from("ab\n"), max_size=12), max_size=12),
    lines_max=st.integers(0, 12),
    line_chars_max=st.integers(1, 8),
)
def test_what_is_kept_and_what_is_counted_are_everything(pieces: list[str], lines_max: int, line_chars_max: int) -> None:
    found: list[LogLine] = []
    limits = CaptureLimits(lines_max=lines_max, line_chars_max=line_chars_max)
    with capture_output(found.append, limits=limits) as capture:
        for piece in pieces:
            sys.stdout.write(piece)
    text = "".join(pieces)
    wanted = text.split("\n")
    if wanted[-1] == "":
        wanted.pop()
    kept = messages(found)
    assert len(kept) + capture.lines_dropped == len(wanted)
    assert kept == [
        w if len(w) <= line_chars_max else f"{w[:line_chars_max]} [{len(w) - line_chars_max} characters cut]"
        for w in wanted[: len(kept)]
    ]
    noted = sum(min(len(w), line_chars_max) for w in wanted[: len(kept)])
    if len(kept) == len(wanted):
        assert noted + capture.chars_dropped == text.replace("\n", "").__len__()
    assert bool(capture.chars_dropped or capture.lines_dropped) == (messages(found, "output_truncated") != [])


@given(
    text=st.text(st.sampled_from("abc\n\r"), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    chars_max=st.integers(1, 50),
)
def test_lines_do_not_depend_on_how_they_are_cut_into_writes(text: str, cuts: list[int], chars_max: int) -> None:
    def assembled(pieces: list[str]) -> list[str | None]:
        assembler = LineAssembler(chars_max)
        found: list[str | None] = [line for piece in pieces for line in assembler.lines(piece)]
        return [*found, assembler.rest()]

    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert assembled([text[a:b] for a, b in itertools.pairwise(edges)]) == assembled([text])


def peak_of(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def one_write(text: str) -> None:
    sys.stdout.write(text)


def many_writes(text: str) -> None:
    for start in range(0, len(text), 1024):
        sys.stdout.write(text[start : start + 1024])


def one_binary_write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())  # a copy of 64 MB is the writer's own


@pytest.mark.parametrize(
    ("write", "text", "peak_mb_max"),
    [
        (one_write, "x" * (64 * MEGABYTE), 4),
        (one_write, "xxxxxxx\n" * (8 * MEGABYTE), 8),
        (one_write, "\n" * (64 * MEGABYTE), 8),
        (one_write, "\r" * (64 * MEGABYTE), 4),
        (many_writes, "x" * (16 * MEGABYTE), 4),
        (many_writes, "xxx\n" * (4 * MEGABYTE), 8),
        (one_binary_write, "xxxxxxx\n" * (2 * MEGABYTE), 16 + 8),
    ],
    ids=["one line", "many lines", "empty lines", "returns", "pieces of one line", "pieces of many lines", "binary"],
)
def test_memory_stays_flat_whatever_is_printed(lines: list[LogLine], write: Any, text: str, peak_mb_max: int) -> None:
    with capture_output(lines.append) as capture:
        peak = peak_of(lambda: write(text))
    assert peak < peak_mb_max * MEGABYTE
    assert len(lines) <= CaptureLimits().lines_max + 1
    assert capture.chars_dropped + capture.lines_dropped > 0 or "\r" in text


def test_many_prints_stay_within_the_limits(lines: list[LogLine]) -> None:
    def flood() -> None:
        for n in range(100_000):
            print(n)

    with capture_output(lines.append) as capture:
        assert peak_of(flood) < 8 * MEGABYTE
    assert len(lines) == CaptureLimits().lines_max + 1
    assert capture.lines_dropped == 100_000 - CaptureLimits().lines_max


def test_a_flood_through_a_client_that_hangs_is_bounded() -> None:
    release = threading.Event()
    log = LogClient(lambda lines: release.wait(30), "executor", limits=ClientLimits(buffer_lines_max=2_000))

    def tokens() -> None:
        for _ in range(4):
            with capture_output(log.emit):
                for n in range(5_000):
                    print(n, "x" * 100)

    assert peak_of(tokens) < 20 * MEGABYTE
    assert log.dropped > 15_000
    release.set()
    assert log.close()
