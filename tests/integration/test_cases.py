"""The behaviour cases S and A on a real Ray: several runs at a time, with real delays where an order of arrival matters."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.cases.definitions import Case, all_cases
from tests.cases.running import check
from tests.integration.case_running import on_ray, put_actions
from tests.integration.helpers import SECONDS, check_history, rows_of
from wonder_ray.errors import WonderError
from wonder_ray.state import ErrorRecord
from wonder_ray.values import decode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from tests.core import CoreRun
    from wonder_ray.client import Client, Run
    from wonder_ray.definitions.models import WorkflowDefinition

CASES = {case.name: case for case in all_cases()}
AT_A_TIME = 6
DELAY_SCALE = 0.4
"""Of the delays of the cases: long beside a task, short beside a test."""


class Found:
    """A run as `check` reads it."""

    def __init__(self, run: Run) -> None:
        record = run.record()
        self.rows = rows_of(run)
        self.status = str(record.status)
        self.output = None if record.output is None else decode(record.output)
        error = None if record.error is None else decode(record.error)
        self.error = None if error is None else ErrorRecord(error["type"], error["message"])
        self.completed = Counter(row["node_id"] for row in self.rows if row["event_type"] == "node_completed")
        self.failed_attempts = Counter(row["node_id"] for row in self.rows if row["event_type"] == "task.failed")

    def positions(self, event_type: str, node_id: str) -> list[int]:
        return [r["sequence_number"] for r in self.rows if (r["event_type"], r["node_id"]) == (event_type, node_id)]


def definition_on_ray(case: Case, bundle: str) -> WorkflowDefinition:
    """The case's definition, its actions in a bundle and slowed down."""
    seconds = {node: time * DELAY_SCALE for node, time in case.seconds.items()}
    return on_ray(case.definition, f"case-{case.name}".replace("_", "-"), bundle, seconds)


@pytest.fixture(scope="module")
def runs(client: Client, project: Path) -> dict[str, Run | Exception]:
    """Every case, carried out."""
    bundle = put_actions(client, project)

    def carry_out(case: Case) -> Run | Exception:
        try:
            run = client.start(definition_on_ray(case, bundle), case.input)
            run.wait(SECONDS)
        except WonderError as error:
            return error
        return run

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = dict(zip(CASES, pool.map(carry_out, CASES.values()), strict=True))
    client.flush()
    return found


@pytest.mark.timeout(300)  # the first of them carries out all
@pytest.mark.parametrize("name", CASES)
def test_a_case_comes_out_on_ray_as_on_the_core(
    name: str, runs: dict[str, Run | Exception], client: Client, wait_until: WaitUntil
) -> None:
    run = runs[name]
    if isinstance(run, Exception):
        raise run
    found: Any = Found(run)
    check(CASES[name], cast("CoreRun", found), in_time=False)
    check_history(client, run, wait_until, flushed=True)
