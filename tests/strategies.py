"""Hypothesis strategies that several test modules share.

`definitions()` are well-formed but otherwise arbitrary: for round trips. `sound_definitions()` pass validation and end: they
are put together from blocks (task, sequence, split and join, foreach and join, choice, bounded loop), for planners to run.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from wonder_ray.definitions import models
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,7}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
_YAML_TRAPS = r"on no yes null ~ 1 1.0 1e3 0x1F 0o17 0777 1_000 12:30:45 2026-11-23 << = *a &a !tag # ' \ .inf .NaN true N"
tricky_texts = st.sampled_from(
    [*_YAML_TRAPS.split(), "", " ", '"', "- x", "a: b", "a #b", "\n", "a\nb\n", "\t", "\x85", "\u2028", "\ufeff"]
)
expressions = (
    st.sampled_from(["item", "result", "state.a", "state.a > 1 && input.b != 'x'", "[1, 2]", '{"a": 1}']) | tricky_texts | texts
)
mappings = st.dictionaries(names | tricky_texts | texts, expressions, max_size=3)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts | tricky_texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts | tricky_texts, below, max_size=3),
    max_leaves=8,
)


def _some(kind: Callable[..., Any], /, *required: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Models with the required fields and any of the others."""
    optional = {name: strategy for name, strategy in fields.items() if name not in required}
    return st.fixed_dictionaries({name: fields[name] for name in required}, optional=optional).map(lambda chosen: kind(**chosen))


def _tuples(of: st.SearchStrategy[Any], min_size: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=min_size, max_size=3).map(tuple)


retries = _some(
    models.Retry,
    max_attempts=st.integers(1, 10_000),
    backoff_s=st.floats(0, 86_400),
    multiplier=st.floats(1, 100),
    max_backoff_s=st.floats(0, 604_800),
    jitter=st.floats(0, 1),
    retry_on=_tuples(names),
    non_retryable=_tuples(names),
)
resources = _some(
    models.Resources,
    num_cpus=st.floats(0, 1000),
    num_gpus=st.floats(0, 1000),
    memory=st.integers(1, 10**15),
    resources=st.dictionaries(names, finite, max_size=2),
    label_selector=st.dictionaries(texts, texts, max_size=2),
    runtime_env=st.dictionaries(texts, json_values, max_size=2),
)
_seconds = st.floats(0.001, 1e9)
undos = _some(
    models.Undo, "action", action=texts, input=mappings, retry=_tuples(retries), timeout_s=_seconds, resources=resources
)
schemas = st.dictionaries(texts, json_values, max_size=3)
escalations = _some(models.Escalation, "after_s", "assignee", after_s=_seconds, assignee=expressions)
_common: dict[str, st.SearchStrategy[Any]] = {
    "id": names,
    "output": mappings,
    "guard": expressions,
    "concurrency_key": expressions,
    "concurrency_limit": st.integers(1),
    "mutex": _tuples(names),
}
_tasks: dict[str, st.SearchStrategy[Any]] = {
    **_common,
    "input": mappings,
    "retry": _tuples(retries),
    "timeout_s": _seconds,
    "resources": resources,
    "batch": st.booleans(),
    "undo": undos,
}
steps = _some(
    models.Step,
    "name",
    "action",
    name=texts,
    action=texts,
    input=mappings,
    output=mappings,
    when=expressions,
    on_failure=st.sampled_from(["abort", "retry", "continue"]),
    max_attempts=st.integers(1, 1000),
)
nodes = st.one_of(
    _some(models.ActionNode, "id", "action", action=texts, **_tasks),
    _some(models.StepsNode, "id", "steps", steps=_tuples(steps, 1), **_tasks),
    _some(models.ComputeNode, "id", **_common),
    _some(
        models.GateNode,
        "id",
        input=mappings,
        answer=schemas,
        assignee=expressions,
        timeout_s=_seconds,
        escalate=_tuples(escalations),
        **_common,
    ),
    _some(
        models.SignalNode,
        "id",
        signal=names | tricky_texts,
        retained=st.booleans(),
        payload=schemas,
        timeout_s=_seconds,
        **_common,
    ),
    _some(models.TimerNode, "id", duration_s=st.none() | finite | expressions, until=st.none() | expressions, **_common),
    _some(
        models.TerminateNode,
        "id",
        status=st.sampled_from(["completed", "failed"]),
        error_type=names | tricky_texts,
        message=texts,
        **_common,
    ),
    _some(
        models.SubworkflowNode,
        "id",
        "workflow",
        workflow=names | tricky_texts,
        version=st.sampled_from(["latest", "0" * 64]) | texts,
        input=mappings,
        retry=_tuples(retries),
        timeout_s=_seconds,
        undo=undos,
        **_common,
    ),
)
merges = _some(
    models.Merge,
    "target",
    target=texts,
    source=expressions,
    strategy=st.sampled_from(["append", "concat", "merge_object", "keyed_by_branch", "last_wins"]),
)
joins = _some(
    models.Join,
    "over",
    over=names,
    strategy=st.sampled_from(["all", "any", "m_of_n"]),
    m=st.none() | st.integers() | expressions,
    remaining=st.sampled_from(["absorb", "cancel", "pass"]),
    merge=_tuples(merges),
    blocking=st.booleans(),
    timeout_s=_seconds,
    on_timeout=st.sampled_from(["fail", "proceed_with_available"]),
)
transitions = _some(
    models.Transition,
    "source",
    "target",
    source=names,
    target=names,
    priority=st.integers(),
    when=expressions,
    on=st.sampled_from(["completed", "failed", "failed[X]", "group_failed(g)", "timed_out", "cancelled"]),
    spawn_count=st.none() | st.integers() | expressions,
    foreach=expressions,
    item=names,
    group=names,
    max_concurrency=st.integers(1),
    tolerated_failures=st.none() | st.integers(0) | st.floats(0, 1, exclude_min=True, exclude_max=True),
    max_iterations=st.integers(0),
    join=joins,
    race=names,
    open=st.booleans(),
    cancel=_tuples(names),
    cancel_groups=_tuples(names),
    complete_groups=_tuples(names),
    close_groups=_tuples(names),
)


def definitions() -> st.SearchStrategy[models.WorkflowDefinition]:
    """Well-formed definitions, most of which make no sense."""
    found: st.SearchStrategy[models.WorkflowDefinition] = _some(
        models.WorkflowDefinition,
        "name",
        "nodes",
        name=names,
        description=texts | tricky_texts,
        input=st.dictionaries(texts, json_values, max_size=3),
        output=mappings,
        nodes=_tuples(nodes, 1),
        transitions=_tuples(transitions),
        start=_tuples(names),
        timeout_s=_seconds,
        bundle=st.none() | texts,
        state=schemas,
        max_depth=st.integers(1, 1000),
    )
    return found


Block = tuple[Any, ...]
_blocks: st.SearchStrategy[Block] = st.recursive(
    st.just(("task",)),
    lambda below: st.one_of(
        st.tuples(st.just("sequence"), below, below),
        st.tuples(st.just("split"), below, below),
        st.tuples(st.just("each"), st.integers(0, 3), below),
        st.tuples(st.just("choice"), below, below),
        st.tuples(st.just("loop"), st.integers(1, 3), below),
    ),
    max_leaves=6,
)


@st.composite
def sound_definitions(draw: st.DrawFn, action: str = "m:f") -> models.WorkflowDefinition:
    """Definitions that pass validation, whose runs end, and whose `action` nodes take no input.

    Every action node writes its result to `state.last`, every join of a foreach its items to `state.all`.
    """
    flow = Workflow("generated", output={"state": "state"})
    flow.compute("begin", start=True)
    entry, _ = _Blocks(flow, action, count()).add(draw(_blocks))
    flow.transition("begin", entry)
    return flow.definition()


class _Blocks:
    """Adds blocks to a workflow; each has one entry and one exit node."""

    def __init__(self, flow: Workflow, action: str, numbers: Iterator[int]) -> None:
        self.flow = flow
        self.action = action
        self.numbers = numbers

    def add(self, block: Block) -> tuple[str, str]:
        kind, *rest = block
        found: tuple[str, str] = getattr(self, f"_{kind}")(*rest)
        return found

    def _task(self) -> tuple[str, str]:
        node = self.flow.node(f"task{next(self.numbers)}", self.action, output={"state.last": "result"})
        return node, node

    def _point(self, name: str) -> str:
        return self.flow.compute(f"{name}{next(self.numbers)}")

    def _sequence(self, first: Block, second: Block) -> tuple[str, str]:
        (entry, middle), (then, leave) = self.add(first), self.add(second)
        self.flow.transition(middle, then)
        return entry, leave

    def _split(self, first: Block, second: Block) -> tuple[str, str]:
        entry, leave = self._point("split"), self._point("join")
        group = f"{entry}.group"
        for block in (first, second):
            start, end = self.add(block)
            self.flow.transition(entry, start, group=group)
            self.flow.transition(end, leave, join=All(group))
        return entry, leave

    def _each(self, size: int, block: Block) -> tuple[str, str]:
        entry, leave = self._point("each"), self._point("join")
        group = f"{entry}.group"
        start, end = self.add(block)
        self.flow.transition(entry, start, foreach=str([*range(size)]), group=group)
        self.flow.transition(end, leave, join=All(group, merge=Append("state.all", "item")))
        return entry, leave

    def _choice(self, first: Block, second: Block) -> tuple[str, str]:
        entry, leave = self._point("choice"), self._point("merge")
        for priority, (when, block) in enumerate((("has(state.last)", first), (None, second))):
            start, end = self.add(block)
            self.flow.transition(entry, start, when=when, priority=priority)
            self.flow.transition(end, leave)
        return entry, leave

    def _loop(self, times: int, block: Block) -> tuple[str, str]:
        leave = self._point("done")
        start, end = self.add(block)
        self.flow.transition(end, start, max_iterations=times)
        self.flow.transition(end, leave, priority=1)
        return start, leave
