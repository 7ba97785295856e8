"""Which tokens start next, and in which order."""

from __future__ import annotations

import pytest

from tests.core import CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import ComputeNode, Retry
from wonder_ray.errors import ActionError
from wonder_ray.planning import facts


@pytest.mark.parametrize("forgetful", [False, True])
def test_ready_tokens_start_by_the_order_of_nodes_and_by_age(forgetful: bool) -> None:
    """So that what is started next follows from the records, and not from what a coordinator has seen since it opened them."""
    definition = flow(
        ComputeNode(id="a"),
        act("b", mutex=("m",)),
        act("c", retry=(Retry(max_attempts=2, backoff_s=0),)),
        transitions=(edge("a", "c", spawn_count=3), edge("a", "b", spawn_count=2)),
    )
    failing = iter([True])

    def shaky() -> None:
        if next(failing, False):
            raise ActionError("Shaky", "once")

    run = CoreRun(definition, {"c": shaky}, room=1)

    def forget() -> None:
        if forgetful:
            run.state.rebuild_index()
            run.machine.go_on_from(run.state)

    run.start()
    forget()
    run.finish("c")
    forget()
    run.pass_time(0)
    forget()
    run.finish("b")
    forget()
    run.run_on()
    started = [(row["path_id"], row["attempt"]) for row in run.rows if row["event_type"] == "task.dispatched"]
    assert started == [("root.a.3", 1), ("root.a.0", 1), ("root.a.4", 1), ("root.a.0", 2), ("root.a.1", 1), ("root.a.2", 1)]


def test_who_has_waited_for_a_lock_gets_it_although_another_asks_for_it_in_the_turn_in_which_it_is_free() -> None:
    definition = flow(
        ComputeNode(id="a"),
        *(act(node, mutex=("m",)) for node in ("later", "holder", "waiter")),
        act("before"),
        transitions=(*(edge("a", node) for node in ("holder", "waiter", "before")), edge("before", "later")),
    )
    run = started(definition)
    assert {token.node_id for token in run.flying} == {"holder", "before"}
    both = [run.outcome(token) for token in run.flying]
    run.flying.clear()
    run.turn(*both)
    assert [token.node_id for token in run.flying] == ["waiter"]
    run.run_on()
    assert (run.status, run.completed["later"]) == ("completed", 1)


def test_guards_that_nothing_can_make_true_any_more_fail_their_nodes_oldest_first() -> None:
    definition = flow(
        ComputeNode(id="off", output={"state.on": "false"}),
        *(act(node, guard="state.on") for node in "bc"),
        act("missed"),
        transitions=(
            edge("off", "c"),
            edge("off", "b"),
            *(edge(node, "missed", on="failed[GuardUnsatisfied]") for node in "bc"),
        ),
    )
    run = started(definition)
    failed = run.events("token.failed")
    assert [row["node_id"] for row in failed] == ["c"], "what follows of that may make the other true"
    assert failed[0]["error"]["message"] == (
        "the guard 'state.on' of node 'c' does not hold, and nothing that is left in the run can change that"
    )
    assert run.run_on().completed == {"off": 1, "missed": 2}
    assert run.status == "completed"


def test_who_asks_for_a_key_that_admits_another_gets_it_although_one_who_waited_is_served_first() -> None:
    definition = flow(
        ComputeNode(id="a"),
        act("b", concurrency_key="'k'", concurrency_limit=2),
        act("before"),
        transitions=(edge("a", "b", spawn_count=3), edge("a", "before"), edge("before", "b")),
    )
    run = started(definition)
    assert sorted(token.node_id for token in run.flying) == ["b", "b", "before"]
    all_three = [run.outcome(token) for token in run.flying]
    run.flying.clear()
    run.turn(*all_three)
    assert len(run.of("b")) == 2
    run.run_on()
    assert (run.status, run.completed["b"]) == ("completed", 4)


def test_a_run_whose_branches_wait_for_a_guard_and_for_each_other_waits_for_the_world() -> None:
    definition = flow(
        ComputeNode(id="a"),
        act("b", guard="has(state.door)"),
        transitions=(edge("a", "b", spawn_count=3, max_concurrency=1),),
    )
    run = started(definition)
    assert (run.status, len(run.state.index.parked), run.state.index.limits.blocked) == ("waiting", 1, 2)
    run.say(facts.UpdateState(changes={"state.door": "open"}))
    run.run_on()
    assert (run.status, run.completed["b"], run.most_flying["b"]) == ("completed", 3, 1)
