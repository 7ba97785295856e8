#!/usr/bin/env python
"""Measures how fast events are made durable, and folded again; `scripts/bench.py events` and `... replay` call this.

    scripts/bench.py events --n 200000 --json       one event service, batches of 1,000, each durable before the next is sent
    scripts/bench.py replay --n 50000 --json        the events of one run, from Parquet to the state that they give

`baseline` is what nobody can do without: for `events` the same lines appended to a plain file that is synced after each batch,
for `replay` decoding the same events without doing anything with them. Both sides are alternated. Every event is counted in
Parquet by a plain pyarrow reader, and the folded state must be that of the run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow.dataset as ds

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.bench_query import START_US, expect, line, run_id
from wonder_ray.coordinator.machine import Machine
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import ActionNode, Join, Merge, Transition, WorkflowDefinition
from wonder_ray.events.query import EventReader
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.fold import fold, new_state
from wonder_ray.planning import facts
from wonder_ray.state import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.state import Token

AT_ONCE: Final = 1_000
RUNS: Final = 10
"""That are alive at the same time."""
EVENTS_PER_BRANCH: Final = 6


def info_of(run: int) -> RunInfo:
    """What is the same in all events of a run."""
    return RunInfo(run_id(run), "default", "demo", run_id(run), None, "crawl", "1")


def batches(n: int) -> Iterator[EventBatch]:
    """The events of ten runs, a thousand of one run at a time."""
    per_run = -(-n // RUNS // AT_ONCE) * AT_ONCE
    for first in range(1, per_run + 1, AT_ONCE):
        for run in range(RUNS):
            lines = b"\n".join(line(run, number) for number in range(first, first + AT_ONCE))
            yield EventBatch(info_of(run), "events", 1, first, first + AT_ONCE - 1, lines)


def synced(arrived: list[EventBatch], path: Path) -> float:
    """Seconds to append the lines to a file, synced after each batch."""
    began = time.perf_counter()
    with path.open("wb") as file:
        for batch in arrived:
            file.write(batch.lines)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - began


def append(arrived: list[EventBatch], storage: Path) -> float:
    """Seconds until the service has acknowledged the last batch."""
    with EventService(storage) as service:
        for run in range(RUNS):
            service.open(run_id(run), 1, new=True)
        began = time.perf_counter()
        for batch in arrived:
            expect(service.submit([batch])[0].outcome == "ok", "the event service refused a batch")
        return time.perf_counter() - began


def events(n: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Events per second, acknowledged as durable."""
    arrived = list(batches(n))
    total = len(arrived) * AT_ONCE
    figures, found = [], 0
    for number in range(repeat):
        storage = folder / str(number)
        took = append(arrived, storage)
        figures.append({"wonder": total / took, "baseline": total / synced(arrived, folder / "plain")})
        found += ds.dataset(storage / "events", partitioning="hive").count_rows()
    return told("events", total, "events/s", figures, total * repeat, found)


def fan_out(branches: int) -> WorkflowDefinition:
    """One action that fans out, a branch of one action each, and a join."""
    joined = Join(over="items", merge=(Merge(source="result", target="state.all", strategy="append"),))
    nodes = tuple(ActionNode(id=name, action=f"m:{name}") for name in ("split", "work", "end"))
    transitions = (
        Transition(source="split", target="work", spawn_count=branches, group="items"),
        Transition(source="work", target="end", join=joined),
    )
    return WorkflowDefinition(name="crawl", nodes=nodes, transitions=transitions)


def history(branches: int) -> tuple[list[bytes], dict[str, Any]]:
    """The events of a run, made by the planners from results that come ten at a time; and the state that it ends in."""
    state = new_state(run_id(0))
    machine = Machine(compile_graph(fan_out(branches)), state, epoch=1)
    lines: list[bytes] = []
    batch: list[facts.Fact] = [facts.StartRun(input=None, workflow_name="crawl", workflow_version="1")]
    flying: list[Token] = []
    while batch:
        turn = machine.turn(batch, now_us=START_US + len(lines), room=lambda _node: branches)
        lines.extend(row for _, row in turn.record.events)
        flying += turn.dispatched
        batch = [
            facts.TaskSucceeded(token_id=t.id, attempt=t.attempt, epoch=t.epoch, result={"words": 7}, duration_ms=1.0)
            for t in flying[:10]
        ]
        del flying[:10]
    expect(state.run.status == RunStatus.COMPLETED, f"the run is {state.run.status}")
    return lines, state.durable()


def replay(n: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Seconds to read the events of a run from Parquet, and to fold them; beside it, decoding them alone."""
    lines, state = history(max(1, n // EVENTS_PER_BRANCH))
    run = run_id(0)
    with EventService(folder) as service:
        service.open(run, 1, new=True)
        ack = service.submit([EventBatch(info_of(0), "events", 1, 1, len(lines), b"\n".join(lines))])[0]
        expect(ack.outcome == "ok", "the event service refused a batch")
    figures = []
    for _ in range(repeat):
        began = time.perf_counter()
        folded = fold(run, [row.as_dict() for row in EventReader(folder).read(run)])
        took = time.perf_counter() - began
        expect(folded.durable() == state, "the folded state is not the run's")
        del folded  # else the next round would free it while it is measured
        gc.collect()
        began = time.perf_counter()
        for each in lines:
            msgspec.json.decode(each)
        figures.append({"wonder": took, "baseline": time.perf_counter() - began})
    found = ds.dataset(folder / "events", partitioning="hive").count_rows()
    return told("replay", len(lines), "s", figures, len(lines), found)


def told(name: str, n: int, unit: str, figures: list[dict[str, float]], expected: int, found: int) -> dict[str, Any]:
    """What every benchmark prints."""
    expect(found == expected, f"{found} of {expected} events are in Parquet")
    medians = {side: statistics.median(figure[side] for figure in figures) for side in ("wonder", "baseline")}
    return {
        "name": name,
        "n": n,
        **{side: round(value, 3) for side, value in medians.items()},
        "ratio": round(medians["wonder"] / medians["baseline"], 3),
        "unit": unit,
        "runs": [{side: round(value, 3) for side, value in figure.items()} for figure in figures],
        "durability": {"journal_mode": "wal", "synchronous": "full"},
        "events_expected": expected,
        "events_in_parquet": found,
        "cpu_count": os.cpu_count(),
        "ray": version("ray"),
        "python": platform.python_version(),
    }


BENCHMARKS: Final = MappingProxyType({"events": (events, 200_000), "replay": (replay, 50_000)})


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BENCHMARKS))
    parser.add_argument("--n", type=int, help="events, about")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    given = parser.parse_args()
    measure, n = BENCHMARKS[given.name]
    with tempfile.TemporaryDirectory(prefix="wonder-bench-") as folder:
        result = measure(given.n or n, given.repeat, Path(folder))
    if not given.json:
        print(f"{given.name} n={result['n']}: {result['wonder']} {result['unit']}, without us {result['baseline']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
