"""Runs with known histories, batches cut from them, and what a plain reader finds in the datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.dataset as ds

from wonder_ray.events.layout import EventLayout
from wonder_ray.events.wire import EventBatch, RunInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wonder_ray.events.wire import Stream

NOON_US = 1_795_003_200_000_000
"""2026-11-18T12:00:00Z."""
DAY_US = 86_400_000_000


def run_id(number: int) -> str:
    return f"run_{NOON_US // 1000 + number:012x}_{number:016x}"


def info(run: str) -> RunInfo:
    return RunInfo(run, "default", "demo", run, None, "crawl", "3")


def metadata(number: int) -> str:
    return msgspec.json.encode({"n": number, "text": 'é "quoted"\n\\ \x00'}).decode()


def line(number: int, *, epoch: int = 1, at_us: int = NOON_US, **more: Any) -> bytes:
    row = {
        "sequence_number": number,
        "turn": number // 3,
        "turn_now": at_us + number,
        "epoch": epoch,
        "timestamp": at_us + number,
        "event_type": "token.created",
        "node_id": "fetch",
        "metadata": metadata(number),
    }
    return msgspec.json.encode(row | more)


def trace_line(number: int, *, epoch: int = 1, at_us: int = NOON_US) -> bytes:
    return msgspec.json.encode(
        {
            "sequence_number": number,
            "turn": number,
            "timestamp": at_us + number,
            "epoch": epoch,
            "event_type": "operation.tokens.created",
            "category": "operation",
            "payload": metadata(number),
        }
    )


class History:
    """The whole history of a run; `starts` are the sequence numbers at which epochs 1, 2, ... begin."""

    def __init__(self, number: int = 1, *, length: int = 100, starts: Sequence[int] = (1,), step_us: int = 1) -> None:
        self.run = run_id(number)
        self.length = length
        self.starts = starts
        self.step_us = step_us

    def epoch_of(self, number: int) -> int:
        return sum(1 for start in self.starts if start <= number)

    def batch(self, first: int, last: int, *, epoch: int | None = None, stream: Stream = "events") -> EventBatch:
        """Rows `first` to `last`, sent by `epoch` (the one that committed the last of them)."""
        make = line if stream == "events" else trace_line
        rows = [make(n, epoch=self.epoch_of(n), at_us=NOON_US + n * (self.step_us - 1)) for n in range(first, last + 1)]
        return EventBatch(info(self.run), stream, epoch or self.epoch_of(last), first, last, b"\n".join(rows))


def in_files(storage: Path, stream: Stream = "events") -> list[tuple[str, int]]:
    """`(run, sequence number)` of every row that a plain reader finds, sorted, with whatever is double."""
    root = EventLayout(storage).dataset(stream)
    if not any(root.rglob("*")):
        return []
    table = ds.dataset(root, partitioning="hive").to_table(columns=["workflow_run_id", "sequence_number"])
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))


def rows_of(*histories: History) -> list[tuple[str, int]]:
    """What `in_files` finds when all is there, once."""
    return sorted((history.run, number) for history in histories for number in range(1, history.length + 1))
