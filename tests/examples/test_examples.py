from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.in_process import in_process
from wonder_ray.errors import WonderError
from wonder_ray.examples import agent, approval, digest, hello, sweep

if TYPE_CHECKING:
    from tests.core import CoreRun
    from wonder_ray.state import Token


def oddest_first(flying: list[Token]) -> int:
    return min(range(len(flying)), key=lambda position: flying[position].id)


# --- hello -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, {}, {"names": []}])
def test_hello_greets_known_people_by_default(value: object) -> None:
    assert in_process(hello.flow.definition()).run(value).output["count"] == len(hello.NAMES)


def test_hello_greets_in_the_order_of_the_names() -> None:
    run = in_process(hello.flow.definition(), order=oddest_first).run({"names": ["Zoe", "Ada", "Mo", "Ada"]})
    assert run.output == {"greetings": ["Hello, Zoe!", "Hello, Ada!", "Hello, Mo!"], "count": 3}


@pytest.mark.parametrize("flow", [hello.flow, sweep.flow, approval.flow, agent.flow, agent.lookup, digest.flow])
def test_examples_draw_no_warning(flow: Any) -> None:
    assert flow.problems() == []


# --- sweep -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> CoreRun:
    return swept(None)


def swept(value: Any, **settings: Any) -> CoreRun:
    pytest.importorskip("sklearn", reason="the sweep needs scikit-learn, which comes with wonder-ray[examples]")
    return in_process(sweep.flow.definition(), checked=False, **settings).run(value)


def test_the_sweep_widens_its_grid_once_and_publishes_the_winner(full: CoreRun) -> None:
    assert full.error is None
    report = full.output["report"]
    assert report["published"]
    assert report["winner"].startswith("svm")
    assert report["mean"] >= report["threshold"] == pytest.approx(0.988)
    assert report["held_out_accuracy"] > 0.95
    assert full.completed["widen"] == 1
    assert full.completed["rank"] == 2


def test_what_scikit_learn_refuses_is_tolerated_and_reported(full: CoreRun) -> None:
    tried = [*sweep.GRID, *sweep.WIDER_GRID]
    report = full.output["report"]
    assert report["failed"] == ["neighbors n_neighbors=5000", "linear_svm penalty=l1 loss=hinge"]
    assert len(report["configurations"]) == len(tried) - 2
    tolerated = full.events("group.failure_tolerated")
    assert {row["error"]["type"] for row in tolerated} == {"ValueError"}
    assert len(tolerated) == 2


def test_configurations_are_ranked_by_their_mean(full: CoreRun) -> None:
    means = [row["mean"] for row in full.output["report"]["configurations"]]
    assert means == sorted(means, reverse=True)
    assert all(0 <= row["std"] < 0.05 for row in full.output["report"]["configurations"])


def test_simulated_preemptions_are_retried_and_only_these(full: CoreRun) -> None:
    retried = full.events("task.retry_scheduled")
    assert 3 <= len(retried) <= 20
    assert {row["error"]["type"] for row in retried} == {"Preempted"}
    assert set(Counter(row["token_id"] for row in retried).values()) == {1}


def test_nodes_that_only_compute_are_never_sent_to_executors(full: CoreRun) -> None:
    assert full.completed["choose"] == len(sweep.GRID) + len(sweep.WIDER_GRID)
    assert full.started.count("choose") == 0


def test_preemption_can_be_switched_off() -> None:
    run = swept({"quick": True, "preempt_one_in": 0, "folds": 2})
    assert run.error is None
    assert run.events("task.retry_scheduled") == []


def test_a_quick_sweep_gives_the_same_report_in_any_order_and_across_crashes() -> None:
    runs = [swept({"quick": True, "folds": 2}, **how) for how in ({}, {"order": oddest_first}, {"crash_every_turn": True})]
    assert [run.error for run in runs] == [None] * 3
    assert runs[0].output == runs[1].output == runs[2].output


def test_a_sweep_that_never_gets_good_enough_reports_without_publishing() -> None:
    run = swept({"quick": True, "threshold": 1.0})
    assert run.completed["widen"] == 1
    assert run.completed["publish"] == 0
    assert not run.output["report"]["published"]
    assert run.output["report"]["winner"].startswith("svm")
    assert len(run.output["report"]["confused"]) <= sweep.CONFUSIONS_SHOWN


def test_a_setting_that_makes_no_sense_fails_the_first_node() -> None:
    run = swept({"folds": 1})
    assert run.error is not None
    assert run.error.node_id == "plan"
    assert "folds" in run.error.message


def test_actions_ask_for_their_context() -> None:
    with pytest.raises(WonderError, match="inside an action only"):
        sweep.evaluate(sweep.GRID[0], fold=0, folds=2, preempt_one_in=1)


# --- digest ----------------------------------------------------------------------------------------------------------


def test_the_digest_tries_again_where_the_model_turns_a_call_away() -> None:
    run = in_process(digest.flow).run({"documents": 12})
    assert run.output["digest"]["documents"] == run.completed["summarize"] == 12
    failed = run.events("task.failed")
    assert failed
    assert {(row["error"]["type"], row["attempt"]) for row in failed} == {("RateLimited", 1)}
    assert in_process(digest.flow).run({"documents": 0}).output["digest"] == {"documents": 0, "words": 0}


def test_a_damaged_document_fails_the_digest_at_once() -> None:
    run = in_process(digest.flow).run({"documents": 12, "damaged": 3})
    assert run.error is not None
    assert (run.status, run.error.type, run.error.message) == ("failed", "UnreadableDocument", "'document 3' has no text in it")
    assert [row["attempt"] for row in run.events("token.failed")] == [1]
