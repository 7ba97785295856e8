"""A sample of the control-flow patterns, and the cases of resuming, on a real Ray: events from outside come from a client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cases.l_definitions import INVALID, l1, l3
from tests.integration.case_running import on_ray, put_actions
from tests.integration.helpers import SECONDS, check_history, rows_of
from tests.patterns import catalogue
from tests.patterns.reading import Reading, check_blocking
from wonder_ray.errors import CommandRefusedError, WonderError
from wonder_ray.fold import fold
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run
    from wonder_ray.definitions.models import WorkflowDefinition

PATTERNS: Final = {module.PATTERN.number: module for module in catalogue.modules().values()}
AT_A_TIME: Final = 6
LONG: Final = 300.0
"""Seconds: what takes so long is withdrawn before it ends, or the test fails."""


class OnRay(Reading):
    """A run on the cluster, once it has ended."""

    def __init__(self, run: Run) -> None:
        record = run.record()
        self.status = str(record.status)
        self.output = None if record.output is None else decode(record.output)
        self.rows = rows_of(run)
        self.state = fold(run.id, (row.as_dict() for row in run.events()))


@dataclass(frozen=True)
class Sample:
    """A pattern's definition, what is done to its run, and what must come of it."""

    number: int
    counts: Mapping[str, int] | None = None
    """Node -> how often it completes; None where that depends on the order of arrival."""
    value: Any = None
    output: Any = None
    cancelled: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Node -> how long its task takes."""
    act: Callable[[Run, WaitUntil], object] = lambda _run, _wait_until: None
    check: Callable[[OnRay], bool] = lambda _run: True
    definition: str = "DEFINITION"
    """Its name in the pattern's module."""


def ones(nodes: str) -> dict[str, int]:
    """Each node completes once."""
    return dict.fromkeys(nodes.split(), 1)


def accepted(wait_until: WaitUntil, command: Callable[[], Any]) -> Any:
    """Give a command until the run is there for it."""

    def given() -> Any:
        try:
            return command()
        except CommandRefusedError:
            return None

    return wait_until(given, SECONDS, what="the command to be accepted")


def add_and_close(run: Run, wait_until: WaitUntil) -> None:
    """Two more members, and no others."""
    accepted(wait_until, lambda: run.add_members("g", ["p", "q"], key="more"))
    run.close_group("g")


def signal_until_heard(run: Run, wait_until: WaitUntil) -> None:
    """What comes while nobody waits is lost."""
    wait_until(lambda: run.signal("go", 1)["delivered"], SECONDS, what="somebody to wait for the signal")


SAMPLES: Final = (
    Sample(9, ones("a b c d join end"), seconds={"c": 1.0, "d": 1.0}, check=lambda run: run.starts("join") < run.ends("c", "d")),
    Sample(14, ones("a join") | {"each": 3}, value=[3, 1, 2], output={"all": [3, 1, 2]}),
    Sample(15, ones("a join end") | {"each": 3}, value=["x"], output={"all": ["x", "p", "q"]}, act=add_and_close),
    Sample(16, ones("a ask after_ask"), cancelled=("go", "late"), act=lambda run, _: run.answer("ask", 1)),
    Sample(17, ones("a x y p1 p2 q1 q2 end"), check=lambda run: run.at_a_time("p1", "p2", "q1", "q2") == 1),
    Sample(18, check=lambda run: run.counts.get("task", 0) + run.counts.get("missed", 0) == 1),
    Sample(19, ones("a stop end"), cancelled=("task",), seconds={"task": LONG}),
    Sample(22, ones("test below times"), value={"n": 2}, output={"value": 2}),
    Sample(23, ones("a go b"), output={"got": 1}, act=signal_until_heard),
    Sample(24, ones("a go b"), output={"got": 1}, act=lambda run, _: run.signal("go", 1)),
    Sample(25, ones("a stop end"), cancelled=("p", "q"), seconds={"p": LONG, "q": LONG}),
    Sample(
        27,
        ones("a join end"),
        value=["x", "y"],
        output={"came": []},
        cancelled=("each", "each"),
        seconds={"each": LONG},
        act=lambda run, wait_until: accepted(wait_until, lambda: run.complete_group("g", key="enough")),
    ),
    Sample(
        28,
        ones("end") | dict.fromkeys(("a", "b", "c", "join"), 2),
        check=lambda run: check_blocking(run, "b", "c", needed=1) >= 0,
    ),
    Sample(29, ones("a c join end"), cancelled=("b",), seconds={"b": LONG}),
    Sample(33, ones("a") | dict.fromkeys(("x", "y", "join"), 2)),
    Sample(36, ones("a join end") | {"each": 3}, value=["x", "y", "z"]),
    Sample(38, ones("a b join end away") | {"c": 3}, value={"loops": 3, "away": True}),
    Sample(39, ones("a p1 p2 q1 q2 p3 q3 end"), check=lambda run: run.at_a_time("p1", "p2", "q1", "q2") == 1),
    Sample(43, ones("a b stop"), output={"by": "b"}, cancelled=("c",), seconds={"c": LONG}),
)
BY_NUMBER: Final = {sample.number: sample for sample in SAMPLES}


@pytest.fixture(scope="module")
def bundle(client: Client, project: Path) -> str:
    """The actions of all definitions."""
    return put_actions(client, project)


@pytest.fixture(scope="module")
def runs(client: Client, bundle: str, wait_until: WaitUntil) -> dict[int, Run | Exception]:
    """Every sample, carried out."""

    def carry_out(sample: Sample) -> Run | Exception:
        definition: WorkflowDefinition = getattr(PATTERNS[sample.number], sample.definition)
        name = definition.name if definition.name != "case" else f"wcp-{sample.number:02}"
        try:
            run = client.start(on_ray(definition, name, bundle, sample.seconds), sample.value)
            sample.act(run, wait_until)
            run.wait(SECONDS)
        except WonderError as error:
            return error
        return run

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = dict(zip(BY_NUMBER, pool.map(carry_out, SAMPLES), strict=True))
    client.flush()
    return found


@pytest.mark.timeout(300)  # the first of them carries out all
@pytest.mark.parametrize("number", BY_NUMBER)
def test_a_pattern_comes_out_on_ray_as_on_the_core(
    number: int, runs: dict[int, Run | Exception], client: Client, wait_until: WaitUntil
) -> None:
    sample, run = BY_NUMBER[number], runs[number]
    if isinstance(run, Exception):
        raise run
    found = OnRay(run)
    assert found.status == "completed"
    assert sample.counts is None or found.counts == sample.counts
    assert sorted(found.cancelled) == sorted(sample.cancelled)
    assert sample.output is None or found.output == sample.output
    assert sample.check(found)
    check_history(client, run, wait_until, flushed=True)


def test_cancelling_a_run_ends_the_runs_below_it_first(client: Client, bundle: str, wait_until: WaitUntil) -> None:
    """WCP-20, with a child and a child of that."""
    module = PATTERNS[20]
    for below in (module.LEAF, module.MIDDLE):
        client.register(on_ray(below, below.name, bundle, {"x": LONG}))
    run = client.start(on_ray(module.TOP, "top", bundle, {"b": LONG}))
    (leaf,) = wait_until(lambda: client.runs(workflow="leaf", status="running"), SECONDS, what="the lowest run to begin")
    run.cancel("not wanted any more")
    assert run.wait(SECONDS) is not None
    ended = {record.workflow_name: record for record in client.runs() if record.root_run_id == leaf.root_run_id}
    assert {name: str(record.status) for name, record in ended.items()} == dict.fromkeys(("top", "middle", "leaf"), "cancelled")
    client.flush()
    for record in ended.values():
        check_history(client, client.run(record.run_id), wait_until, flushed=True)


def ended(run: Run) -> str:
    """How a run has ended."""
    record = run.wait(SECONDS)
    return "not yet" if record is None else str(record.status)


def test_a_run_that_failed_begins_again_where_it_stood(client: Client, bundle: str) -> None:
    """L1: the branch that has finished is not repeated."""
    runs = [client.start(on_ray(l1(), "l1", bundle, {"two": 0.3}))]
    statuses = [ended(runs[-1])]
    for changes in ({}, {"state.mended": True}):
        runs.append(runs[-1].restart_from("two", set=changes))
        statuses.append(ended(runs[-1]))
    assert statuses == ["failed", "failed", "completed"]
    assert runs[-1].result() == {"value": 6}
    executed = [row["node_id"] for run in runs for row in rows_of(run) if row["event_type"] in {"task.completed", "task.failed"}]
    assert {node: executed.count(node) for node in set(executed)} == {"one": 1, "two": 5}


def test_a_gate_asks_until_the_answer_holds(client: Client, bundle: str, wait_until: WaitUntil) -> None:
    """L3: each answer finds the gate open again."""
    run = client.start(on_ray(l3(), "l3", bundle, {}))
    for answer, said in ((13, ""), (15, INVALID), (19, INVALID)):
        (gate,) = wait_until(run.gates, SECONDS, what="the gate to open")
        assert gate.shown == {"question": "How old are you?", "said": said}
        assert run.answer("age", answer)["accepted"]
    assert run.result(SECONDS) == {"age": 19}
    assert sum(row["event_type"] == "gate.opened" for row in rows_of(run)) == 3
