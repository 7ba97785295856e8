"""What people are told of a wait, and what they are told to type."""

from __future__ import annotations

from typing import Any

import pytest

from wonder_ray.cli.waits import Need, need_lines, wait_lines
from wonder_ray.planning.queries import Waiting

RUN = "run_x"
HOUR_US = 3_600_000_000
YES_OR_NO = {"enum": ["yes", "no"]}


@pytest.mark.parametrize(
    ("wait", "lines"),
    [
        (Waiting(kind="gate", node_id="g"), ["gate 'g' asks somebody", "  wonder answer run_x g JSON"]),
        (
            Waiting(kind="gate", node_id="g", assignee={"team": "a"}, asked=3, schema=YES_OR_NO, deadline_us=HOUR_US),
            [
                'gate \'g\' asks {"team":"a"} (asked 3 times); the answer must be {"enum":["yes","no"]}; times out in 1 h',
                "  wonder answer run_x g '\"yes\"'",
            ],
        ),
        (
            Waiting(kind="signal", node_id="s", name="order paid", schema={"type": "object"}),
            ["node 's' waits for the signal 'order paid'", "  wonder signal run_x 'order paid' --payload JSON"],
        ),
        (Waiting(kind="signal", node_id="s"), ["node 's' waits for the signal 's'", "  wonder signal run_x s"]),
        (
            Waiting(kind="group", node_id="s", name="pages"),
            [
                "group 'pages' takes members until it is closed",
                "  wonder add-members run_x pages JSON...",
                "  wonder close-group run_x pages",
            ],
        ),
        (
            Waiting(kind="guard", node_id="n"),
            ["node 'n' waits until its guard holds", "  wonder update run_x state.NAME=JSON"],
        ),
        (Waiting(kind="lock", node_id="n"), ["node 'n' waits for a lock that another holds"]),
        (Waiting(kind="timer", node_id="t", deadline_us=HOUR_US), ["timer 't' goes off at 1970-01-01 01:00:00.000Z (in 1 h)"]),
        (Waiting(kind="child", node_id="c", name="run_y"), ["node 'c' waits for its child run run_y"]),
        (Waiting(kind="pause", name="lunch\x1b[31m"), [r"run run_x is paused: lunch\x1b[31m", "  wonder resume run_x"]),
        (Waiting(kind="pause"), ["run run_x is paused", "  wonder resume run_x"]),
    ],
)
def test_each_kind_of_wait_is_told(wait: Any, lines: list[str]) -> None:
    assert wait_lines(RUN, wait, now_us=1) == lines


def test_gates_at_one_node_are_named_by_their_tokens_and_commands_find_the_storage() -> None:
    needs = [Need(RUN, Waiting(kind="gate", node_id="g", token_id=f"t_{number}")) for number in (1, 2)]
    needs += [Need("run_y", Waiting(kind="gate", node_id="g", token_id="t_3")), Need("run_y", Waiting(kind="guard", node_id="g"))]
    told = [need_lines(need, needs, hint=" --storage /d")[1] for need in needs]
    assert told == [
        "  wonder answer run_x t_1 JSON --storage /d",
        "  wonder answer run_x t_2 JSON --storage /d",
        "  wonder answer run_y g JSON --storage /d",
        "  wonder update run_y state.NAME=JSON --storage /d",
    ]
