"""What these tests look at and do: ledgers of executions, histories, processes to kill."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.dataset as ds
import ray

from wonder_ray.coordinator.loading import state_of
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.errors import StorageError
from wonder_ray.fold import fold
from wonder_ray.storage.lock import read_holder
from wonder_ray.storage.sqlite import SqliteRunStore
from wonder_ray.workflow_events import TERMINAL_EVENTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run

NAMESPACE = "wonder"
SERVICES = ("events", "logs", "resources", "directory")
SECONDS = 90.0
"""How long anything may take on a busy machine."""


class Execution(NamedTuple):
    """One line of a ledger."""

    node: str
    token: str
    attempt: int
    epoch: int
    pid: int


class Ledger:
    """A file to which actions append a line per execution."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def executions(self) -> list[Execution]:
        """What was executed, whole lines only."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [
            Execution(node, token, int(attempt), int(epoch), int(pid))
            for node, token, attempt, epoch, pid in map(str.split, lines)
        ]


def rows_of(run: Run) -> list[dict[str, Any]]:
    """A run's events, each with its details among its columns."""
    return [row.as_dict() | row.details for row in run.events()]


def of_type(rows: list[dict[str, Any]], event_type: str) -> list[dict[str, Any]]:
    """The rows of one type."""
    return [row for row in rows if row["event_type"] == event_type]


def check_history(client: Client, run: Run, wait_until: WaitUntil, *, flushed: bool = False) -> list[dict[str, Any]]:
    """Invariants 3, 4, 10 and 11 of a run that has ended; its rows. `flushed` says that its events are in files already."""
    rows = rows_of(run)
    assert [row["sequence_number"] for row in rows] == list(range(1, len(rows) + 1))
    ends = [row["event_type"] for row in rows if row["event_type"] in TERMINAL_EVENTS]
    assert ends == [rows[-1]["event_type"]]
    assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows)
    if not flushed:  # which takes up to a second: flushes are shared
        client.flush()
    assert sequences_in_parquet(client, run) == [row["sequence_number"] for row in rows]
    folded = fold(run.id, (row.as_dict() for row in run.events()))
    wait_until(lambda: holder_of(client, run) is None, SECONDS, what="the coordinator to let go of the file")
    assert stored_state(client, run) == folded.durable()
    return rows


def sequences_in_parquet(client: Client, run: Run) -> list[int]:
    """The sequence numbers of a run in the folder, by a plain reader."""
    table = ds.dataset(client.storage.events, partitioning="hive").to_table(
        columns=["sequence_number"], filter=ds.field("workflow_run_id") == run.id
    )
    return sorted(table["sequence_number"].to_pylist())


def stored_state(client: Client, run: Run) -> dict[str, Any]:
    """What the run's file holds."""
    with SqliteRunStore(client.storage.run_file(run.id), read_only=True) as store:
        stored = store.load()
    assert stored is not None
    return state_of(stored).durable()


def holder_of(client: Client, run: Run) -> dict[str, Any] | None:
    """The process that holds the run's file."""
    return read_holder(client.storage.lock_file(run.id))


def coordinator_pid(client: Client, run: Run, wait_until: WaitUntil) -> int:
    """The process of a run's coordinator, once it has opened the run."""
    holder = wait_until(lambda: _opened(client, run), SECONDS, what="the coordinator to open the run")
    return int(holder["pid"])


def _opened(client: Client, run: Run) -> dict[str, Any]:
    holder = holder_of(client, run) or {}
    return holder if "epoch" in holder else {}


def completed_tokens(run: Run) -> int:
    """How many tokens have completed, as the coordinator last told."""
    snapshot = run.status()
    return 0 if snapshot is None else sum(counts.get("completed", 0) for counts in snapshot.nodes.values())


def kill_hard(pid: int) -> None:
    """As the kernel does it when memory is short."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def service_pid(name: str) -> int:
    """The process of a service."""
    actor = ray.get_actor(name, namespace="wonder")
    return int(ray.get(actor.ping.remote(), timeout=SECONDS)["pid"])


def kill_services() -> None:
    """End the cluster's services for good: whoever needs them makes new ones."""
    for found in ray.util.list_named_actors(all_namespaces=True):
        if found["namespace"] == NAMESPACE and found["name"] in SERVICES:
            ray.kill(ray.get_actor(found["name"], namespace=NAMESPACE))


def in_flight_at_restart(rows: list[dict[str, Any]]) -> int:
    """The tokens that were dispatched and not back when a run was resumed, over all resumptions."""
    flying: set[str] = set()
    total = 0
    for row in rows:
        match row["event_type"]:
            case "task.dispatched":
                flying.add(row["token_id"])
            case "task.completed" | "task.failed":
                flying.discard(row["token_id"])
            case "run.resumed":
                total += len(flying)
                flying.clear()
    return total


def fan_out(actions: Any, name: str, *, seconds: float = 0.0, max_concurrency: int | None = None) -> Workflow:
    """`spread` -> `square` for each of `input.n` numbers -> their sum."""
    flow = Workflow(name, output={"squares": "state.squares"})
    flow.node("spread", actions.spread, input={"n": "input.n"}, output={"state.numbers": "result"})
    given = {"n": "item", "ledger": "input.ledger", "seconds": repr(seconds)}
    flow.node("square", actions.noted_square, input=given)
    flow.compute("done")
    flow.transition("spread", "square", foreach="state.numbers", group="all", max_concurrency=max_concurrency)
    flow.transition("square", "done", join=All("all", merge=Append("state.squares")))
    return flow


def is_file_free(client: Client, run: Run) -> bool:
    """Whether the run's file can be read."""
    try:
        stored_state(client, run)
    except StorageError:
        return False
    return True
