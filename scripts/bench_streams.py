#!/usr/bin/env python
"""Measures event streams over HTTP, each of another run; `scripts/bench.py streams` calls this.

    scripts/bench.py streams --n 100 --seconds 20 --json

The API is `wonder serve`'s with one replica, over a local Ray's real services. The runs are in the registry, and their events
are handed to the event service as a coordinator does it, one to each run every second, so that nothing but streams is measured:
first while all runs are silent, then while all of them go on. CPU is of the processes that serve them, in seconds per second;
the delay is from the acknowledged commit to the last byte at the client. Each stream must have each event once, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ray

import wonder_ray as wonder
from wonder_ray.clock import SystemClock
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.http.serving import Serving, deploy, stop
from wonder_ray.ids import NAMESPACE
from wonder_ray.resources.master_key import load_master_keys
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.client import Client

PORT: Final = 18_431
LAST: Final = "workflow.completed"
PATIENCE_S: Final = 120.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
DEFINITION: Final = b'{"name":"streamed","nodes":[{"id":"ask","kind":"gate"}],"start":["ask"]}'


class Streamed:
    """One run, its events, and its one stream."""

    def __init__(self, run_id: str) -> None:
        self.info = RunInfo(run_id, "default", "default", run_id, None, "streamed", "v1")
        self.sent = 0
        self.committed: dict[int, float] = {}
        self.seen: list[int] = []
        self.at: dict[int, float] = {}

    def batch(self, event_type: str = "token.created") -> EventBatch:
        """Its next event."""
        self.sent += 1
        at_us = time.time_ns() // 1000
        line = (
            f'{{"sequence_number":{self.sent},"turn":{self.sent},"turn_now":{at_us},"epoch":1,"timestamp":{at_us},'
            f'"event_type":"{event_type}","node_id":"ask","metadata":"{{\\"n\\":{self.sent}}}"}}'
        )
        return EventBatch(self.info, "events", 1, self.sent, self.sent, line.encode())

    async def follow(self, key: str) -> None:
        """Read its stream to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        path = f"/v1/runs/{self.info.workflow_run_id}/events/stream"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        status = await reader.readline()
        expect(b" 200 " in status, f"the stream answers {status!r}")
        while line := await reader.readline():
            if line.startswith(b"id: "):
                number = int(line[4:])
                self.seen.append(number)
                self.at[number] = time.perf_counter()
            elif line == b"0\r\n":
                break
        writer.close()


def registered(storage: Path, n: int) -> list[Streamed]:
    """Runs that the directory leaves alone, as those of a Ray that is gone."""
    layout = Layout(storage).prepare()
    registry = ResourcesService(layout.resources, clock=SystemClock(), master_keys=load_master_keys(layout.master_key))
    registry.put_definition(DEFINITION)
    found = []
    for _ in range(n):
        record, _created = registry.start_run(StartRequest(workflow_name="streamed"))
        registry.take_epoch(record.run_id, 0, None)
        found.append(Streamed(record.run_id))
    registry.close()
    return found


async def append(events: Any, batches: list[tuple[Streamed, EventBatch]]) -> None:
    """As a coordinator: durable when this returns."""
    for ack in await events.append.remote([batch for _, batch in batches]):
        expect(ack.outcome == "ok", f"the event service answers {ack}")
    for run, batch in batches:
        run.committed[batch.last] = time.perf_counter()


async def going_on(events: Any, runs: list[Streamed], seconds: float) -> None:
    """An event to each run every second, spread over it."""
    began = time.perf_counter()
    for number in range(int(seconds * len(runs))):
        await asyncio.sleep(max(0.0, began + number / len(runs) - time.perf_counter()))
        run = runs[number % len(runs)]
        await append(events, [(run, run.batch())])


async def watched(client: Client, runs: list[Streamed], key: str, seconds: float) -> dict[str, Any]:
    """Follow all runs at once, and measure."""
    events = ray.get_actor("events", namespace=NAMESPACE)
    for run in runs:
        await events.open.remote(run.info.workflow_run_id, 1, True)  # noqa: FBT003 - Ray passes it on
    await append(events, [(run, run.batch("workflow.started")) for run in runs])
    streams = [asyncio.create_task(run.follow(key)) for run in runs]
    await until(lambda: all(run.seen for run in runs), "every stream to begin")
    pids = processes(client)
    await asyncio.sleep(3.0)  # streams that have just begun are not yet silent ones
    silent = await cpu_of(pids, asyncio.sleep(seconds))
    active = await cpu_of(pids, going_on(events, runs, seconds))
    await append(events, [(run, run.batch(LAST)) for run in runs])
    await asyncio.wait_for(asyncio.gather(*streams), PATIENCE_S)
    for run in runs:
        expect(run.seen == list(range(1, run.sent + 1)), f"{run.info.workflow_run_id}: {run.seen} of {run.sent} events")
    delays = sorted((run.at[n] - at) * 1000 for run in runs for n, at in run.committed.items() if 1 < n < run.sent)
    ends = sorted((run.at[run.sent] - run.committed[run.sent]) * 1000 for run in runs)
    return {
        "silent_cpu": silent,
        "active_cpu": active,
        "delay_ms_p50": round(statistics.median(delays), 1),
        "delay_ms_p99": round(delays[int(0.99 * len(delays))], 1),
        "delay_ms_max": round(delays[-1], 1),
        "end_ms_max": round(ends[-1], 1),
        "events": sum(run.sent for run in runs),
    }


async def until(done: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    give_up = time.perf_counter() + PATIENCE_S
    while not done():
        expect(time.perf_counter() < give_up, f"waited in vain for {what}")
        await asyncio.sleep(0.05)


def processes(client: Client) -> dict[str, int]:
    """What serves streams, and its process."""
    found = {"events": int(client._services.call("events", "ping")["pid"])}  # noqa: SLF001 - the project's own
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == "serve" and re.match(r"SERVE_(REPLICA|PROXY)", actor["name"]):
            handle = ray.get_actor(actor["name"], namespace="serve")
            role = "replica" if "REPLICA" in actor["name"] else "proxy"
            found[role] = ray.get(handle.__ray_call__.remote(lambda _self: os.getpid()))
    return found


async def cpu_of(pids: dict[str, int], meanwhile: Any) -> dict[str, float]:
    """CPU seconds per second of each process while something goes on."""
    before, began = {role: cpu_seconds(pid) for role, pid in pids.items()}, time.perf_counter()
    await meanwhile
    took = time.perf_counter() - began
    return {role: round((cpu_seconds(pid) - before[role]) / took, 3) for role, pid in pids.items()}


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def measure(n: int, seconds: float, storage: Path) -> dict[str, Any]:
    """Serve, follow, measure."""
    runs = registered(storage, n)
    with wonder.connect(storage=storage) as client:
        key = client.admin.create_api_key(f"bench-{secrets.token_hex(3)}", ("events:read",)).token
        deploy(client, Serving(port=PORT, replicas=1))
        try:
            found = asyncio.run(watched(client, runs, key, seconds))
        finally:
            stop()
    about = {"cpu_count": os.cpu_count(), "ray": ray.__version__, "python": platform.python_version()}
    return {"name": "streams", "n": n, "seconds": seconds, **found, **about}


def expect(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion that stays with python -O
    """Stop the benchmark when an event is missing."""
    if not condition:
        sys.exit(f"bench: {message}")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="runs, with a stream each")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the runs are silent, and then active")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wonder-bench-") as folder:
        result = measure(given.n, given.seconds, Path(folder))
    if not given.json:
        print(f"streams of {result['n']} runs: CPU {result['silent_cpu']} while silent, {result['active_cpu']} while active;")
        print(f"  from commit to client {result['delay_ms_p50']} ms (median), {result['delay_ms_max']} ms (most)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
