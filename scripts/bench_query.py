#!/usr/bin/env python
"""Measures SQL on the event folder: the events of one run out of many millions; `scripts/bench.py query` calls this.

    scripts/bench.py query --n 10000000 --json

The folder is written by a real event service, from batches of a hundred runs at a time, as they come when that many are alive:
so the events of a run lie in several files. `wonder` is `Events.sql`, `baseline` DuckDB without us, both in a session that has
asked before; `..._opened_anew` is with everything that comes before the first query. All in milliseconds. Every answer is
checked, and every event counted in Parquet by a plain pyarrow reader.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow.dataset as ds

from wonder_ray.analytics.events import Events
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS_PER_RUN: Final = 1_000
RUNS_AT_A_TIME: Final = 100
BATCH: Final = 100
START_US: Final = 1_795_003_200_000_000
US_PER_EVENT: Final = 20_000
NODES: Final = ("list", "fetch", "report")
LIFE: Final = (
    "token.created", "task.dispatched", "task.completed", "context.output_applied", "node_completed", "token.completed",
)  # fmt: skip
QUERY: Final = "SELECT * FROM events WHERE workflow_run_id = ? ORDER BY sequence_number"


def run_id(number: int) -> str:
    """Ids that sort by the time of the start, as the system makes them."""
    started_ms = (START_US + number * EVENTS_PER_RUN * US_PER_EVENT) // 1000
    return f"run_{started_ms:012x}_{hashlib.blake2b(str(number).encode(), digest_size=8).hexdigest()}"


def line(run: int, sequence: int) -> bytes:
    """One event of a task's life; ids and values differ, so that files are as large as real ones."""
    task, step = divmod(sequence - 1, len(LIFE))
    digest = hashlib.blake2b(f"{run}.{task}".encode(), digest_size=10).hexdigest()
    at_us = START_US + (run * EVENTS_PER_RUN + sequence * RUNS_AT_A_TIME) * US_PER_EVENT
    took = f',"duration_ms":{int(digest[:4], 16) / 100},"tokens":{int(digest[4:7], 16)},"cost_usd":0.001' if step == 2 else ""  # noqa: PLR2004 - the position of task.completed
    return (
        f'{{"sequence_number":{sequence},"turn":{sequence // 2},"turn_now":{at_us},"epoch":1,"timestamp":{at_us},'
        f'"event_type":"{LIFE[step]}","node_id":"{NODES[task % 3]}","token_id":"t_{digest}","path_id":"root.list.{task}",'
        f'"attempt":1{took},"metadata":"{{\\"scope_id\\":\\"t_{digest}\\",\\"result\\":{{\\"n\\":{sequence}}}}}"}}'
    ).encode()


def batches(runs: range) -> Iterator[list[EventBatch]]:
    """What arrives while these runs are alive: a batch of each in turn."""
    infos = {run: RunInfo(run_id(run), "default", "demo", run_id(run), None, "crawl", "1") for run in runs}
    for first in range(1, EVENTS_PER_RUN + 1, BATCH):
        last = first + BATCH - 1
        yield [
            EventBatch(infos[run], "events", 1, first, last, b"\n".join(line(run, n) for n in range(first, last + 1)))
            for run in runs
        ]


def write(storage: Path, runs: int) -> None:
    """All runs through a real event service."""
    with EventService(storage) as service:
        for begin in range(0, runs, RUNS_AT_A_TIME):
            alive = range(begin, min(begin + RUNS_AT_A_TIME, runs))
            for run in alive:
                service.open_soon(run_id(run), 1, new=True)
            for arrived in batches(alive):
                acks = service.submit(arrived)
                expect(all(ack.outcome == "ok" for ack in acks), "the event service refused a batch")


def timed(ask: Callable[[str], int], run: str) -> float:
    """Milliseconds of one query, whose answer must be whole."""
    began = time.perf_counter()
    rows = ask(run)
    took = (time.perf_counter() - began) * 1000
    expect(rows == EVENTS_PER_RUN, f"{rows} of {EVENTS_PER_RUN} events of {run} were found")
    return took


def measure(runs: int, repeat: int, storage: Path) -> dict[str, Any]:
    """Write, then ask for one run after the other, both sides alternated."""
    write(storage, runs)
    files = f"{storage}/events/date=*/*.parquet"
    view = f"CREATE VIEW events AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)"  # noqa: S608 - a path of ours
    events, database = Events(storage), duckdb.connect()
    database.execute(view)

    def anew(run: str) -> int:
        with contextlib.closing(Events(storage)) as opened:
            return len(opened.sql(QUERY, [run]))

    def plain_anew(run: str) -> int:
        with duckdb.connect() as connection:
            connection.execute(view)
            return len(connection.sql(QUERY, params=[run]).to_arrow_table())

    sides: dict[str, Callable[[str], int]] = {
        "wonder": lambda run: len(events.sql(QUERY, [run])),
        "baseline": lambda run: len(database.sql(QUERY, params=[run]).to_arrow_table()),
        "wonder_opened_anew": anew,
        "baseline_opened_anew": plain_anew,
    }
    for ask in sides.values():
        ask(run_id(0))
    figures = []
    for n in range(repeat):
        run = run_id(runs * (2 * n + 1) // (2 * repeat))
        figures.append({name: timed(ask, run) for name, ask in sides.items()})
    expected = runs * EVENTS_PER_RUN
    found = ds.dataset(storage / "events", partitioning="hive").count_rows()
    expect(found == expected, f"{found} of {expected} events are in Parquet")
    medians = {name: statistics.median(figure[name] for figure in figures) for name in sides}
    return {
        "name": "query",
        "n": expected,
        **{name: round(value, 1) for name, value in medians.items()},
        "ratio": round(medians["wonder"] / medians["baseline"], 3),
        "unit": "ms",
        "runs": [{name: round(value, 1) for name, value in figure.items()} for figure in figures],
        "durability": {},
        "events_expected": expected,
        "events_in_parquet": found,
        "files": len(list((storage / "events").glob("date=*/*.parquet"))),
        "bytes": sum(path.stat().st_size for path in (storage / "events").glob("date=*/*.parquet")),
        "cpu_count": os.cpu_count(),
        "ray": version("ray"),
        "duckdb": duckdb.__version__,
        "python": platform.python_version(),
    }


def expect(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion that stays with python -O
    """Stop the benchmark when an event is missing."""
    if not condition:
        sys.exit(f"bench: {message}")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000_000, help="events in all, rounded up to whole runs")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wonder-bench-") as folder:
        result = measure(-(-given.n // EVENTS_PER_RUN), given.repeat, Path(folder))
    if not given.json:
        print(f"query: {EVENTS_PER_RUN} events of one run out of {result['n']:,} in {result['files']} files:")
        print("  " + ", ".join(f"{name} {result[name]} ms" for name in result["runs"][0]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
