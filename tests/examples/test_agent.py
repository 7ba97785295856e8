"""The agent: rounds of lookups in child runs, until it knows or gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.in_process import in_process
from wonder_ray.examples import agent

if TYPE_CHECKING:
    from tests.core import CoreRun


def asked(topic: str, wanted: str, **settings: Any) -> CoreRun:
    return in_process(agent.flow, **settings).run({"topic": topic, "wanted": wanted})


def looked_up(run: CoreRun) -> list[str]:
    return [row["input"]["term"] for row in run.events("subworkflow.requested")]


@pytest.mark.parametrize("crash", [False, True])
def test_it_reads_on_until_it_finds_the_answer(crash: bool) -> None:
    run = asked("first program", "born", crash_every_turn=crash)
    assert run.error is None
    assert run.output == {
        "answer": "Ada Lovelace was born in London in 1815, a daughter of [Lord Byron].",
        "read": ["first program", "Ada Lovelace", "Analytical Engine"],
    }
    assert looked_up(run) == ["first program", "Ada Lovelace", "Analytical Engine"]
    assert run.completed["think"] == 3


def test_a_lookup_that_fails_is_lost_and_the_round_goes_on() -> None:
    run = asked("Analytical Engine", "mathematics")
    assert run.output["answer"] == "Charles Babbage taught mathematics in Cambridge."
    assert len(run.events("subworkflow.failed")) == len(run.events("group.failure_tolerated")) == 1


def test_it_gives_up_when_there_is_nothing_to_read() -> None:
    run = asked("perpetual motion", "possible")
    assert run.error is None
    assert run.output == {"answer": "I do not know.", "read": []}


def test_it_gives_up_after_some_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = {f"page {i}": f"See [page {i + 1}]." for i in range(100)}
    monkeypatch.setattr(agent, "LIBRARY", endless)
    run = asked("page 0", "answer")
    assert run.output["answer"] == "I do not know."
    assert looked_up(run) == [f"page {i}" for i in range(agent.ROUNDS)]
