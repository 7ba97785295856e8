"""What is recorded: one scenario per function, each a run of the core that shows one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import CoreRun, attempt_of, random_order
from wonder_ray.definitions.models import ComputeNode, Retry
from wonder_ray.errors import ActionError
from wonder_ray.planning import facts
from wonder_ray.state import ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.models import Join, WorkflowDefinition


def failing(times: int, error: str = "Broken", **how: Any) -> Callable[..., Any]:
    """An action that fails so many times, and then returns what it is given."""
    left = [times]

    def action(value: Any = None) -> Any:
        if left[0]:
            left[0] -= 1
            raise ActionError(error, f"{left[0]} failures are left", **how)
        return value

    return action


def three_branches(join: Join, **rest: Any) -> WorkflowDefinition:
    """first -> a, b, c in a group -> join -> after."""
    branches = [node(name, input={"value": f"'{name}'"}) for name in ("a", "b", "c")]
    return workflow(
        [node("first"), *branches, node("join"), node("after")],
        *(edge("first", branch.id, group="g", **rest) for branch in branches),
        *(edge(branch.id, "join", join=join) for branch in branches),
        edge("join", "after"),
        output={"all": "state.all"},
    )


# --- splits and joins ----------------------------------------------------------------------------------------------


def join_all() -> CoreRun:
    """Three branches come back in any order, and are merged in theirs."""
    return CoreRun(three_branches(all_of("g", append("state.all"))), order=random_order(3)).run()


def join_any_absorb() -> CoreRun:
    """The first of three branches goes on; the others end at the join."""
    return CoreRun(three_branches(any_of("g", "absorb", append("state.all"))), order=random_order(1)).run()


def join_any_cancel() -> CoreRun:
    """The first of three branches goes on; the others are withdrawn while they work."""
    return CoreRun(three_branches(any_of("g", "cancel", append("state.all"))), order=random_order(2)).run()


def join_any_pass() -> CoreRun:
    """The first of three branches goes on; each of the others passes the join."""
    return CoreRun(three_branches(any_of("g", "pass", append("state.all"))), order=random_order(4)).run()


def join_m_of_n() -> CoreRun:
    """Two of three, the number being an expression over the input."""
    return CoreRun(three_branches(m_of("input.m", "g", "absorb", append("state.all")))).run({"m": 2})


def join_that_cannot_be_met() -> CoreRun:
    """Four of three: the group fails at once, and so does the run."""
    return CoreRun(three_branches(m_of(4, "g"))).run()


def foreach_with_a_limit() -> CoreRun:
    """Five items, two at a time, with little room to dispatch."""
    flow = workflow(
        [node("first"), node("each", input={"value": "item"}), node("then", input={"value": "item"}), node("join")],
        edge("first", "each", foreach="input.items", group="g", max_concurrency=2),
        edge("each", "then"),
        edge("then", "join", join=all_of("g", append("state.all"))),
        output={"all": "state.all"},
    )
    return CoreRun(flow, room=1, order=random_order(5)).run({"items": [1, "two", None, {"four": 4}, [5]]})


def foreach_over_nothing() -> CoreRun:
    """A group of no members: its join fires at once."""
    flow = workflow(
        [node("first"), node("each"), node("join")],
        edge("first", "each", foreach="[]", group="g"),
        edge("each", "join", join=all_of("g", append("state.all"))),
    )
    return CoreRun(flow).run()


def nested_groups() -> CoreRun:
    """A foreach in a foreach; each inner join merges into its branch."""
    flow = workflow(
        [node("first"), node("row"), node("cell", input={"value": "cell"}), node("row_end"), node("end")],
        edge("first", "row", foreach="input", item="row", group="rows"),
        edge("row", "cell", foreach="row", item="cell", group="cells"),
        edge("cell", "row_end", join=all_of("cells", append("state.cells"))),
        edge("row_end", "end", join=all_of("rows", append("state.rows", "state.cells"))),
        output={"rows": "state.rows"},
    )
    return CoreRun(flow, order=random_order(6)).run([[1, 2], [], [3]])


def incoming_joins() -> CoreRun:
    """A diamond with a side way that is never taken, joined over `incoming`; twice, in a loop."""
    flow = workflow(
        [node("start"), ComputeNode(id="split"), node("a"), node("b"), node("dead"), node("join"), node("end")],
        edge("start", "split"),
        edge("split", "a"),
        edge("split", "b"),
        edge("split", "dead", when="1 == 2"),
        *(edge(name, "join", join=all_of("incoming")) for name in ("a", "b", "dead")),
        edge("join", "split", max_iterations=1),
        edge("join", "end", priority=1),
    )
    return CoreRun(flow, order=random_order(7)).run()


def incoming_rounds() -> CoreRun:
    """A join over `incoming` that fires for the first; the second is absorbed, and a third way is found dead."""
    join = any_of("incoming", "absorb", append("state.all"))
    flow = workflow(
        [node("start"), node("a"), node("b"), node("c"), node("join")],
        edge("start", "a"),
        edge("start", "b"),
        edge("start", "c"),
        edge("a", "join", join=join),
        edge("b", "join", join=join),
        edge("c", "join", join=join, when="1 == 2"),
    )
    return CoreRun(flow).run()


def threads_without_a_group() -> CoreRun:
    """Three threads that nobody joins, and nodes that are computed."""
    flow = workflow(
        [node("first"), ComputeNode(id="count", output={"state.n": "has(state.n) ? state.n + 1 : 1"}), node("last")],
        edge("first", "count", spawn_count=3),
        edge("count", "last"),
        output={"n": "state.n"},
    )
    return CoreRun(flow).run()


# --- loops ---------------------------------------------------------------------------------------------------------


def loop() -> CoreRun:
    """A counter that counts to three, by a condition."""
    flow = workflow(
        [
            ComputeNode(id="begin", output={"state.n": "0"}),
            node("work"),
            ComputeNode(id="add", output={"state.n": "state.n + 1"}),
        ],
        edge("begin", "work"),
        edge("work", "add"),
        edge("add", "work", when="state.n < 3"),
        output={"n": "state.n"},
    )
    return CoreRun(flow).run()


def loop_bound_exceeded() -> CoreRun:
    """A loop that has nowhere to go when it has used up its iterations."""
    flow = workflow([node("work")], edge("work", "work", max_iterations=2), start=("work",))
    return CoreRun(flow).run()


# --- failures ------------------------------------------------------------------------------------------------------


def retries() -> CoreRun:
    """Two failures, two waits, a success; a coordinator dies in between."""
    retry = (Retry(max_attempts=3, backoff_s=2),)
    flow = workflow([node("flaky", retry=retry, input={"value": "input"}, output={"state.x": "result"})], output={"x": "state.x"})
    return CoreRun(flow, {"flaky": failing(2)}, crash_at=2).run("at last")


def failure_that_is_routed() -> CoreRun:
    """A failure goes to its handler, which sees the error."""
    flow = workflow(
        [node("work"), node("mend", input={"value": "error.type"}, output={"state.error": "result"}), node("other")],
        edge("work", "mend", on="failed[Broken]"),
        edge("work", "other", on="failed"),
        output={"error": "state.error"},
    )
    return CoreRun(flow, {"work": failing(9)}).run()


def failure_of_the_run() -> CoreRun:
    """A failure that nothing handles, with a sibling at work."""
    flow = workflow("first a b", edge("first", "a"), edge("first", "b"))
    return CoreRun(flow, {"a": failing(9, retryable=False)}).run()


def failures_that_are_tolerated() -> CoreRun:
    """A group takes two failures and joins what is left."""
    flow = three_branches(all_of("g", append("state.all")), tolerated_failures=2)
    return CoreRun(flow, {"a": failing(1), "c": failing(1)}).run()


def group_that_fails_and_is_tried_again() -> CoreRun:
    """The first time a member fails, its siblings are withdrawn, and the split is made again."""
    flow = workflow(
        [node("first"), node("a"), node("b"), node("join")],
        edge("first", "a", group="g"),
        edge("first", "b", group="g"),
        edge("first", "first", on="group_failed(g)", max_iterations=1),
        edge("a", "join", join=all_of("g")),
        edge("b", "join", join=all_of("g")),
        start=("first",),
    )
    return CoreRun(flow, {"a": failing(1)}).run()


def input_that_cannot_be_rendered() -> CoreRun:
    """Two of five tokens cannot be dispatched for their input; there is room for two at a time."""
    flow = workflow(
        [node("first"), node("each", input={"value": "item.x"}), node("mend"), node("join")],
        edge("first", "each", foreach="input", group="g"),
        edge("each", "join", join=all_of("g")),
        edge("each", "mend", on="failed"),
        edge("mend", "join", join=all_of("g")),
    )
    return CoreRun(flow, room=2).run([{"x": 1}, {}, {"x": 3}, {}, {"x": 5}])


# --- time, losses, ends --------------------------------------------------------------------------------------------


def timeouts() -> CoreRun:
    """The first attempt takes too long, the second too; the handler goes on."""
    retry = (Retry(max_attempts=2, backoff_s=0.5),)
    flow = workflow(
        [node("slow", timeout_s=5, retry=retry), node("mend"), node("beside")],
        edge("slow", "mend", on="timed_out"),
        start=("slow", "beside"),
    )
    return CoreRun(flow, durations=lambda token: {"slow": 60, "beside": 7}.get(token.node_id, 1)).run()


def run_timeout() -> CoreRun:
    """The run takes longer than it may."""
    flow = workflow("a b", edge("a", "b"), timeout_s=3)
    return CoreRun(flow, durations=lambda _token: 2).run()


def losses() -> CoreRun:
    """A lone task is lost and charged, a shared one is not; a late result is refused."""
    flow = workflow(
        [node("first"), node("each", input={"value": "item"}), node("join")],
        edge("first", "each", foreach="[1, 2, 3]", group="g"),
        edge("each", "join", join=all_of("g", append("state.all"))),
    )
    run = CoreRun(flow)
    run.start()
    run.finish("first")
    gone = ErrorRecord("WorkerDied", "the worker died", kind="lost", node_id="each")
    a, b, c = run.of("each")
    late = run.outcome(a)
    run.flying = []
    run.turn(
        facts.TaskLost(**attempt_of(a), error=gone, batched=True),
        facts.TaskLost(**attempt_of(b), error=gone, batched=True),
        facts.TaskLost(**attempt_of(c), error=gone),
    )
    run.turn(late)
    return _to_the_end(run)


def cancelled() -> CoreRun:
    """A cancel in the same turn as a result that came before it."""
    run = CoreRun(three_branches(all_of("g")))
    run.start()
    run.finish("first")
    result = run.outcome(run.flying.pop())
    run.turn(result, facts.CancelRun(reason="enough", key="k1"))
    return run


def coordinators_that_die() -> CoreRun:
    """The coordinator dies after every turn."""
    flow = three_branches(all_of("g", append("state.all")))
    return CoreRun(flow, crash_every_turn=True, order=random_order(8)).run()


def unfinished() -> CoreRun:
    """Half-way: one branch waits at its join, two are at work."""
    run = CoreRun(three_branches(all_of("g")))
    run.start()
    run.finish("first")
    run.finish("b")
    return run


def _to_the_end(run: CoreRun) -> CoreRun:
    while run.step():
        pass
    run.check()
    return run


SCENARIOS = (
    join_all,
    join_any_absorb,
    join_any_cancel,
    join_any_pass,
    join_m_of_n,
    join_that_cannot_be_met,
    foreach_with_a_limit,
    foreach_over_nothing,
    nested_groups,
    incoming_joins,
    incoming_rounds,
    threads_without_a_group,
    loop,
    loop_bound_exceeded,
    retries,
    failure_that_is_routed,
    failure_of_the_run,
    failures_that_are_tolerated,
    group_that_fails_and_is_tried_again,
    input_that_cannot_be_rendered,
    timeouts,
    run_timeout,
    losses,
    cancelled,
    coordinators_that_die,
    unfinished,
)
