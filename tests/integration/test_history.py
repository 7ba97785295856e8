"""Chains and fan-outs on a real Ray, and what every reader of the folder then finds."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds

from tests.integration.helpers import SECONDS, Ledger, check_history, fan_out, of_type, rows_of
from wonder_ray.definitions.builder import Workflow

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client


def chain(actions: Any) -> Workflow:
    flow = Workflow("chain", output={"n": "state.n"})
    names = [f"step{i}" for i in range(5)]
    flow.node(names[0], actions.add, input={"a": "input.n"}, output={"state.n": "result"})
    for before, name in pairwise(names):
        flow.node(name, actions.add, input={"a": "state.n", "b": "10"}, output={"state.n": "result"})
        flow.transition(before, name)
    return flow


def test_a_chain_keeps_its_order_and_state(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    run = client.start(chain(actions), {"n": 1})
    assert run.result(SECONDS) == {"n": 42}
    rows = check_history(client, run, wait_until)
    assert [row["node_id"] for row in of_type(rows, "node_completed")] == [f"step{i}" for i in range(5)]
    assert run.state()["run"]["status"] == "completed"
    halfway = of_type(rows, "node_completed")[2]["sequence_number"]
    assert run.state(at=halfway)["state"] == {"n": 22}


def test_a_fan_out_is_joined_in_order_and_read_alike_by_every_reader(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = client.start(fan_out(actions, "squares"), {"n": 120, "ledger": str(ledger)}, labels={"team": "tests"})
    assert run.result(SECONDS) == {"squares": [n * n for n in range(120)]}
    rows = check_history(client, run, wait_until)
    assert len({execution.token for execution in ledger.executions()}) == len(ledger.executions()) == 120
    folder = client.storage.events
    found = ds.dataset(folder, partitioning="hive").to_table(filter=ds.field("workflow_run_id") == run.id)
    told = sorted((row["sequence_number"], row["event_type"]) for row in found.to_pylist())
    assert told == [(row["sequence_number"], row["event_type"]) for row in rows]
    by_pandas = pd.read_parquet(folder)
    by_pandas = by_pandas[by_pandas["workflow_run_id"] == run.id]
    by_polars = pl.read_parquet(f"{folder}/**/*.parquet").filter(pl.col("workflow_run_id") == run.id)
    chosen = f"SELECT sequence_number, event_type FROM read_parquet('{folder}/**/*.parquet') WHERE workflow_run_id = ?"
    by_duckdb = duckdb.execute(chosen, [run.id]).fetchall()
    assert sorted(zip(by_pandas["sequence_number"], by_pandas["event_type"], strict=True)) == told
    assert sorted(zip(by_polars["sequence_number"], by_polars["event_type"], strict=True)) == told
    assert sorted(by_duckdb) == told
    record = run.record()
    assert (record.status, record.events, record.labels) == ("completed", len(rows), {"team": "tests"})


def test_only_runs_that_ask_for_it_are_traced(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    traced, plain = client.start(chain(actions), {"n": 1}, trace=True), client.start(chain(actions), {"n": 1})
    assert traced.result(SECONDS) == plain.result(SECONDS) == {"n": 42}
    client.flush()
    table = ds.dataset(client.storage.trace_events, partitioning="hive").to_table()
    by_run = {run.id: table.filter(ds.field("workflow_run_id") == run.id) for run in (traced, plain)}
    assert by_run[plain.id].num_rows == 0
    numbers = sorted(by_run[traced.id]["sequence_number"].to_pylist())
    assert numbers == list(range(1, len(numbers) + 1))
    assert {"decision", "operation", "sql", "dispatch"} <= set(by_run[traced.id]["category"].to_pylist())
    check_history(client, traced, wait_until)


def test_the_result_is_there_soon_after_the_commit(client: Client, actions: Any) -> None:
    flow = chain(actions)
    client.start(flow, {"n": 1}).result(SECONDS)
    late_ms = []
    for _ in range(3):
        run = client.start(flow, {"n": 1})
        run.result(SECONDS)
        late_ms.append(time.time_ns() / 1e6 - rows_of(run)[-1]["turn_now"] / 1e3)
    assert min(late_ms) < 2_000, "a caller that waits is told at once, and does not poll for seconds"
