#!/usr/bin/env python
"""Measures wonder-ray against bare Ray, alternated in one run, and prints one JSON object as its last line.

    scripts/bench.py fanout --n 10000 [--batch B] [--repeat 5] --json
    scripts/bench.py chain --n 300 --json
    scripts/bench.py starts --n 10 --json
    scripts/bench.py query --n 10000000 --json      (see bench_query.py)
    scripts/bench.py streams --n 100 --json         (see bench_streams.py)
    scripts/bench.py events|replay --json           (see bench_history.py)

Nothing is skipped to look faster: SQLite commits with FULL, every event is counted in Parquet by a plain pyarrow reader, every
result is checked, and every action runs in an executor process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow.dataset as ds
import ray

import wonder_ray as wonder
from wonder_ray.definitions.models import ActionNode, Join, Merge, Transition, WorkflowDefinition
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.client import Client, Run

ACTION = "wonder_ray.examples.bench_actions:noop"
SECONDS = 600.0


class Sample:
    """What one repetition of the wonder-ray side came to."""

    def __init__(self, per_second: float, runs: list[Run]) -> None:
        self.per_second = per_second
        self.runs = runs


def noop(n: int) -> int:
    """What the bare Ray task does."""
    return n


class Pinger:
    """What the bare named actor is."""

    def ping(self, n: int) -> int:
        """Do nothing."""
        return n


bare_noop: Any = ray.remote(num_cpus=1, max_retries=0)(noop)
bare_actor: Any = ray.remote(num_cpus=0)(Pinger)


def fanout_flow(batch: int | None) -> WorkflowDefinition:
    """List -> n no-op items -> join."""
    return WorkflowDefinition(
        name="bench-fanout",
        nodes=(
            ActionNode(id="begin", action=ACTION, input={"n": "input.n"}),
            ActionNode(id="item", action=ACTION, input={"n": "item"}, batch=batch != 1),
            ActionNode(id="end", action=ACTION, input={"n": "size(state.items)"}, output={"output.n": "result"}),
        ),
        transitions=(
            Transition(source="begin", target="item", foreach="input.items", group="items"),
            Transition(source="item", target="end", join=Join(over="items", merge=(Merge(target="state.items"),))),
        ),
    )


def chain_flow() -> WorkflowDefinition:
    """One node that repeats itself n times, each step committed before the next starts."""
    return WorkflowDefinition(
        name="bench-chain",
        nodes=(
            ActionNode(id="step", action=ACTION, input={"n": "'n' in state ? state.n : 0"}, output={"state.n": "result + 1"}),
        ),
        transitions=(Transition(source="step", target="step", when="state.n < input.n", max_iterations=1_000_000),),
        output={"n": "state.n"},
        start=("step",),
    )


def start_flow() -> WorkflowDefinition:
    """One step."""
    return WorkflowDefinition(
        name="bench-start", nodes=(ActionNode(id="only", action=ACTION, input={"n": "input.n"}, output={"output.n": "result"}),)
    )


def fanout(client: Client, n: int, batch: int | None) -> Sample:
    """Items per second, from the start to the committed end."""
    flow = fanout_flow(batch)
    client.register(flow)
    began = time.perf_counter()
    run = client.start(flow, {"n": n, "items": list(range(n))})
    output = run.result(SECONDS)
    took = active_seconds(run, time.perf_counter() - began)
    expect(output == {"n": n}, f"fanout gave {output}")
    return Sample(n / took, [run])


def active_seconds(run: Run, wall: float) -> float:
    """From the run's start to its end, without its coordinator's process start (which `starts` measures)."""
    record = run.record()
    return wall if record.duration_ms is None else record.duration_ms / 1000


def chain(client: Client, n: int, _batch: int | None) -> Sample:
    """Steps per second."""
    run = client.start(chain_flow(), {"n": n})
    began = time.perf_counter()
    output = run.result(SECONDS)
    took = active_seconds(run, time.perf_counter() - began)
    expect(output == {"n": n}, f"chain gave {output}")
    return Sample(n / took, [run])


def starts(client: Client, n: int, _batch: int | None) -> Sample:
    """One-step runs per second, all complete."""
    flow = start_flow()
    client.register(flow)
    began = time.perf_counter()
    runs = [client.start(flow, {"n": i}) for i in range(n)]
    outputs = [run.result(SECONDS) for run in runs]
    took = time.perf_counter() - began
    expect(outputs == [{"n": i} for i in range(n)], "starts gave wrong results")
    return Sample(n / took, runs)


def bare_fanout(n: int) -> float:
    """Bare tasks per second, all submitted at once."""
    began = time.perf_counter()
    results = ray.get([bare_noop.remote(i) for i in range(n)])
    took = time.perf_counter() - began
    expect(results == list(range(n)), "bare Ray gave wrong results")
    return n / took


def bare_chain(n: int) -> float:
    """Bare tasks per second, one after the other."""
    began = time.perf_counter()
    value = 0
    for _ in range(n):
        value = ray.get(bare_noop.remote(value)) + 1
    return n / (time.perf_counter() - began)


def bare_starts(n: int) -> float:
    """Bare named actors per second, each answering one call."""
    began = time.perf_counter()
    actors = [bare_actor.options(name=f"bare-{time.time_ns()}-{i}").remote() for i in range(n)]
    ray.get([actor.ping.remote(i) for i, actor in enumerate(actors)])
    took = time.perf_counter() - began
    for actor in actors:
        ray.kill(actor)
    return n / took


Benchmark = tuple["Callable[[Client, int, int | None], Sample]", "Callable[[int], float]", int, str]
BENCHMARKS: Final = MappingProxyType[str, Benchmark](
    {
        "fanout": (fanout, bare_fanout, 10_000, "items/s"),
        "chain": (chain, bare_chain, 300, "steps/s"),
        "starts": (starts, bare_starts, 10, "runs/s"),
    }
)


ALONE: Final = MappingProxyType(
    {
        "query": ("bench_query.py",),
        "streams": ("bench_streams.py",),
        "events": ("bench_history.py", "events"),
        "replay": ("bench_history.py", "replay"),
    }
)
"""What is measured without bare Ray beside it."""


def expect(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion that stays with python -O
    """Stop the benchmark when a result or an event is missing."""
    if not condition:
        sys.exit(f"bench: {message}")


def count_events(storage: Path, runs: list[Run]) -> int:
    """Events of these runs in the Parquet folder, by a plain reader."""
    folder = storage / "events"
    ids = [run.id for run in runs]
    return int(ds.dataset(folder, partitioning="hive").count_rows(filter=ds.field("workflow_run_id").isin(ids)))


def durability(storage: Path, run: Run) -> dict[str, Any]:
    """The SQLite settings in force in the run's file."""
    path = storage / "runs" / f"{run.id}.sqlite"
    for _ in range(100):
        try:
            with SqliteRunStore(path) as store:
                return store.durability()
        except wonder.WonderError:
            time.sleep(0.1)
    return {}


def measure(name: str, n: int, repeat: int, batch: int | None, storage: Path) -> dict[str, Any]:
    """Alternate both sides, and put the figures together."""
    ours, bare, _, unit = BENCHMARKS[name]
    figures: list[dict[str, float]] = []
    expected = found = 0
    tasks = 0
    pids: set[int] = set()
    with wonder.connect(storage=storage) as client:
        ours(client, min(n, 200), batch)  # warm both sides: worker processes, imports
        bare(min(n, 200))
        for _ in range(repeat):
            sample = ours(client, n, batch)
            figures.append({"wonder": sample.per_second, "baseline": bare(n)})
            client.flush()
            expected += sum(run.record().events or 0 for run in sample.runs)
            found += count_events(storage, sample.runs)
            for run in sample.runs:
                snapshot = run.last_snapshot
                tasks += 0 if snapshot is None else snapshot.ray_tasks
                pids.update(() if snapshot is None else snapshot.executor_pids)
        settings = durability(storage, sample.runs[0])
    expect(found == expected, f"{found} of {expected} events are in Parquet")
    expect(os.getpid() not in pids, "an action ran in the driver")
    wonder_median = statistics.median(figure["wonder"] for figure in figures)
    baseline = statistics.median(figure["baseline"] for figure in figures)
    return {
        "name": name,
        "n": n,
        "wonder": round(wonder_median, 1),
        "baseline": round(baseline, 1),
        "ratio": round(statistics.median(figure["wonder"] / figure["baseline"] for figure in figures), 3),
        "unit": unit,
        "runs": [{key: round(value, 1) for key, value in figure.items()} for figure in figures],
        "durability": settings,
        "events_expected": expected,
        "events_in_parquet": found,
        "ray_tasks": tasks,
        "executor_pids": sorted(pids),
        "batch": batch,
        "cpu_count": os.cpu_count(),
        "ray": ray.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*sorted(BENCHMARKS), *ALONE])
    parser.add_argument("--n", type=int)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batch", type=int, help="1: no batching")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    if sys.argv[1:2] and (command := ALONE.get(sys.argv[1])):
        script = str(Path(__file__).with_name(command[0]))
        sys.exit(subprocess.call([sys.executable, script, *command[1:], *sys.argv[2:]]))
    given = parser.parse_args()
    n = given.n or BENCHMARKS[given.name][2]
    with tempfile.TemporaryDirectory(prefix="wonder-bench-") as folder:
        result = measure(given.name, n, given.repeat, given.batch, Path(folder))
    if not given.json:
        print(f"{result['name']} n={n}: {result['wonder']} {result['unit']}, bare Ray {result['baseline']}, {result['ratio']}x")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
