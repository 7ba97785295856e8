"""Runs of the core with known times and costs, and their rows as Parquet files in a storage folder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq

from tests.cases.words import all_of, append, edge, node, workflow
from tests.core import CoreRun
from wonder_ray.definitions.models import ComputeNode, Retry
from wonder_ray.errors import ActionError
from wonder_ray.events.commit_log import StoredBatch
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.parquet_writer import split_days, to_table
from wonder_ray.events.wire import STREAMS, RunInfo
from wonder_ray.planning.facts import TaskErrored, TaskFact, TaskSucceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.state import Token


def run_id(number: int, start_ms: int = 0x0192F0C1A2B3) -> str:
    """Ids as the system makes them."""
    return f"run_{start_ms + number:012x}_{number:016x}"


def seconds_of(token: Token) -> float:
    """How long an attempt takes: 10 ms to 2 s, the same in every run."""
    digest = hashlib.blake2b(f"{token.id} {token.attempt}".encode(), digest_size=2).digest()
    return 0.01 * (1 + int.from_bytes(digest) % 200)


def usage_of(token: Token, seconds: float) -> dict[str, Any]:
    """Tokens and money by the second, but of nodes called `free`."""
    return {"tokens": round(seconds * 100), "cost_usd": round(seconds, 2)} if token.node_id != "free" else {}


class Measured(CoreRun):
    """A run whose attempts take time and cost money. An executor measures nine tenths of the time that an attempt is open.

    Args:
        used: What an attempt that took so many seconds tells of its usage.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        actions: Mapping[str, Any] | None = None,
        *,
        used: Callable[[Token, float], dict[str, Any]] = usage_of,
        **how: Any,
    ) -> None:
        super().__init__(definition, actions, **{"durations": seconds_of, **how})
        self._used = used

    def outcome(self, token: Token) -> TaskFact:
        fact = super().outcome(token)
        assert isinstance(fact, TaskSucceeded | TaskErrored)
        assert self._durations is not None
        seconds = self._durations(token)
        return msgspec.structs.replace(fact, duration_ms=seconds * 900, **self._used(token, seconds))


def store(storage: Path, runs: Mapping[str, CoreRun], **info: Any) -> Path:
    """Write the runs' rows as the event service does, a file per day; `info` changes what is the same in all rows."""
    layout = EventLayout(storage)
    for stream in STREAMS:
        batches = []
        for run, core in sorted(runs.items()):
            lines = core.lines if stream == "events" else [msgspec.json.encode(row) for row in core.traces]
            if lines:
                batches.append(StoredBatch(_info(run, **info), 1, len(lines), b"\n".join(lines)))
        for day, rows in split_days(to_table(stream, batches)).items() if batches else ():
            folder = layout.partition(stream, day)
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, folder / f"{min(runs)}.parquet")
    return storage


def _info(run: str, **changes: Any) -> RunInfo:
    return msgspec.structs.replace(RunInfo(run, "default", "demo", run, None, "case", "v"), **changes)


def crawl() -> WorkflowDefinition:
    """List three pages, fetch each with one retry, summarize each branch, report."""
    return workflow(
        [
            node("list", input={"value": "['a', 'b', 'c']"}, output={"state.urls": "result"}),
            node("fetch", input={"value": "item"}, retry=(Retry(max_attempts=2, backoff_s=0.5),)),
            node("free", input={"value": "1"}),
            ComputeNode(id="count", output={"state.n": "size(state.pages)"}),
            node("report", input={"value": "state.pages"}, output={"state.report": "result"}),
        ],
        edge("list", "fetch", foreach="state.urls", group="pages", max_concurrency=2),
        edge("fetch", "free"),
        edge("free", "count", join=all_of("pages", append("state.pages"))),
        edge("count", "report"),
        name="crawl",
        output={"report": "state.report"},
    )


def flaky_fetch(failing: str = "b", attempts: int = 1) -> Any:
    """A `fetch` whose first attempts for one page fail."""
    left = [attempts]

    def fetch(value: str) -> str:
        if value == failing and left[0]:
            left[0] -= 1
            raise ActionError("RateLimited", f"no {value} now")
        return value.upper()

    return fetch
