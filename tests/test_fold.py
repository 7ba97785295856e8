"""`fold`, `evolve` and the machine around them: the same history, the same state; the same facts, the same history."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.auditing import picture
from tests.cases.definitions import all_cases
from tests.cases.running import run_in_time
from tests.cases.words import all_of, append, edge, node, workflow
from tests.core import RUN_ID, CoreRun, random_order, replay
from tests.planning.graphs import nested
from wonder_ray import decisions, workflow_events
from wonder_ray.coordinator import apply
from wonder_ray.errors import ActionError, HistoryConflictError, IllegalTransitionError
from wonder_ray.fold import describe, evolve, fold, history, new_state
from wonder_ray.state import (
    RUN_TRANSITIONS,
    TERMINAL_RUN,
    TERMINAL_TOKEN,
    TOKEN_TRANSITIONS,
    Run,
    RunStatus,
    Token,
    TokenStatus,
    check_run_move,
    check_token_move,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.models import WorkflowDefinition

CASES = all_cases()


def actions(definition: WorkflowDefinition, seed: int) -> dict[str, Callable[..., Any]]:
    """What the nodes of an arbitrary definition do: some fail always, some fail by (repeatable) chance."""

    def broken(value: Any = None) -> Any:
        raise ActionError("Broken", str(value))

    def flaky(value: Any = None) -> Any:
        chance[0] = (chance[0] * 1103515245 + 12345) % 2**31
        if chance[0] % 2:
            raise ActionError("Flaky", "by chance")
        return value

    chance = [seed]
    kinds = {"broken": broken, "flaky": flaky}
    return {n.id: kinds[kind] for n in definition.nodes if (kind := getattr(n, "action", "").rpartition(":")[2]) in kinds}


def run_any(definition: WorkflowDefinition, seed: int, **how: Any) -> CoreRun:
    """An arbitrary definition to its end, or until it has gone on for long."""
    run = CoreRun(definition, actions(definition, seed), order=random_order(seed), room=seed % 4 + 1, **how)
    run.start()
    for _ in range(150):
        if not run.step():
            break
    return run


# --- any definition ------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(3), seed=st.integers(0, 2**20), crash=st.sampled_from([None, 3, 7, 12]))
def test_any_definition_ends_in_a_consistent_state(definition: WorkflowDefinition, seed: int, crash: int | None) -> None:
    run = run_any(definition, seed, crash_at=crash)
    assert run.error is None or run.error.type != "Deadlock"
    assume(run.state.run.status in TERMINAL_RUN)
    assert not run.flying


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(3), seed=st.integers(0, 2**20), crash=st.booleans())
def test_the_recorded_facts_yield_the_recorded_events(definition: WorkflowDefinition, seed: int, crash: bool) -> None:
    run = run_any(definition, seed, crash_every_turn=crash, checked=False)
    assert replay(run) == run.lines


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(2), seed=st.integers(0, 2**20))
def test_a_state_that_was_folded_is_indexed_as_one_that_was_kept(definition: WorkflowDefinition, seed: int) -> None:
    run = run_any(definition, seed, checked=False)
    assert picture(fold(RUN_ID, run.rows)) == picture(run.state)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(3, calm=True), seed=st.integers(0, 2**20))
def test_where_nothing_fails_or_races_the_order_of_arrival_does_not_matter(definition: WorkflowDefinition, seed: int) -> None:
    oldest_first = CoreRun(definition, checked=False).run()
    assert oldest_first.status in {"completed", "failed"}
    for again, crash_at in ((seed, None), (seed + 1, seed % 17)):
        run = CoreRun(definition, order=random_order(again), room=seed % 4 + 1, crash_at=crash_at, checked=False).run()
        assert run.status == oldest_first.status
        assert run.status == "failed" or run.completed == oldest_first.completed


# --- laws of fold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_prefix_that_ends_a_turn_is_the_state_of_that_turn(case: Any) -> None:
    whole = run_in_time(case, checked=False).rows
    for at in (1, len(whole) // 3, len(whole) // 2, len(whole)):
        turn = whole[max(at, 1) - 1]["turn"]
        prefix = [row for row in whole if row["turn"] <= turn]
        assert fold(RUN_ID, whole, at=max(at, 1)).durable() == fold(RUN_ID, prefix).durable()


def rows() -> list[dict[str, Any]]:
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("join")],
        edge("a", "b", foreach="[1, 2]", group="g"),
        edge("b", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )
    return CoreRun(flow).run().rows


def test_a_gap_and_a_double_are_refused() -> None:
    good = rows()
    for bad in (good[:3] + good[4:], [*good[:3], good[2], *good[3:]], good[1:]):
        with pytest.raises(HistoryConflictError, match="gap or a double"):
            fold(RUN_ID, bad)


def test_rows_of_the_dataset_with_moments_for_times_fold_to_the_same() -> None:
    good = rows()
    moments = [
        row | {"turn_now": dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=row["turn_now"])} for row in good
    ]
    assert fold(RUN_ID, moments).durable() == fold(RUN_ID, good).durable()


def test_a_token_that_is_created_twice_is_refused() -> None:
    state = new_state(RUN_ID)
    created = workflow_events.TokenCreated(token_id="t", node_id="a", path_id="root")
    evolve(state, created, workflow_events.Stamp(1, 1, 1, 1))
    with pytest.raises(HistoryConflictError, match="created twice"):
        evolve(state, created, workflow_events.Stamp(2, 1, 1, 1))


def test_what_a_state_holds_is_its_own() -> None:
    given_input = {"list": [1]}
    state = new_state(RUN_ID)
    started = workflow_events.WorkflowStarted(input=given_input, workflow_name="w", workflow_version="v")
    evolve(state, started, workflow_events.Stamp(1, 1, 1, 1))
    given_input["list"].append(2)
    assert state.run.input == {"list": [1]}


def test_the_description_shows_what_is_live() -> None:
    half = describe(fold(RUN_ID, rows(), at=8))
    assert [token["node_id"] for token in half["tokens"]] == ["b", "b"]
    assert [group["name"] for group in half["groups"]] == ["g"]
    end = describe(fold(RUN_ID, rows()))
    assert (end["state"], end["tokens"], end["groups"]) == ({"all": [1, 2]}, [], [])
    msgspec.json.encode(end)


# --- tables --------------------------------------------------------------------------------------------------------


def leaves(base: type) -> set[type]:
    below: list[type] = base.__subclasses__()
    return {base} if not below else set().union(*map(leaves, below))


def test_every_event_class_changes_the_state_in_one_place() -> None:
    assert set(history._EVOLVE) == set(workflow_events.EVENT_TYPES.values()) == leaves(workflow_events.WorkflowEvent)


def test_every_decision_class_has_a_handler_and_a_docstring_that_names_its_events() -> None:
    assert set(apply._HANDLERS) == leaves(decisions.Decision)
    for cls in leaves(decisions.Decision):
        assert cls.__struct_config__.tag == cls.__struct_config__.tag.upper()  # type: ignore[attr-defined] # a struct
        named = [name for name in workflow_events.EVENT_TYPES if f"`{name}`" in (cls.__doc__ or "")]
        assert named, cls


@pytest.mark.parametrize("status", list(TokenStatus))
def test_a_token_makes_legal_moves_only(status: TokenStatus) -> None:
    token = Token(id="t", ordinal=1, node_id="a", status=status)
    for to in TokenStatus:
        if to in TOKEN_TRANSITIONS[status]:
            check_token_move(token, to)
        else:
            with pytest.raises(IllegalTransitionError, match=f"cannot go from {status} to {to}"):
                check_token_move(token, to)
    assert (status in TERMINAL_TOKEN) == (not TOKEN_TRANSITIONS[status])


@pytest.mark.parametrize("status", list(RunStatus))
def test_a_run_makes_legal_moves_only(status: RunStatus) -> None:
    run = Run(run_id=RUN_ID, status=status)
    for to in RunStatus:
        if to in RUN_TRANSITIONS[status]:
            check_run_move(run, to)
        else:
            with pytest.raises(IllegalTransitionError):
                check_run_move(run, to)


def test_an_event_that_asks_for_an_illegal_move_raises() -> None:
    state = new_state(RUN_ID)
    about: dict[str, Any] = {"token_id": "t", "node_id": "a", "path_id": "root"}
    stamps = (workflow_events.Stamp(n, 1, 1, 1) for n in range(1, 9))
    evolve(state, workflow_events.TokenCreated(**about), next(stamps))
    evolve(state, workflow_events.TokenCompleted(**about), next(stamps))
    for event in (
        workflow_events.TokenCompleted(**about),
        workflow_events.TokenCancelled(**about, reason="x"),
        workflow_events.TaskDispatched(**about, attempt=1),
        workflow_events.TokenWaiting(**about, join_id="g"),
    ):
        with pytest.raises(IllegalTransitionError):
            evolve(state, event, next(stamps))


# --- determinism ---------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib
from tests.cases.definitions import all_cases
from tests.cases.running import run_in_time
found = hashlib.sha256()
for case in all_cases():
    for line in run_in_time(case, checked=False, crash_at=4).lines:
        found.update(line)
print(found.hexdigest())
"""


def test_the_same_facts_give_the_same_bytes_in_every_process() -> None:
    top = Path(__file__).parents[1]
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            check=True,
            capture_output=True,
            text=True,
            cwd=top,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(top)},
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(found) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_gives_the_same_lines_twice(case: Any) -> None:
    assert run_in_time(case, checked=False).lines == run_in_time(case, checked=False).lines
