"""Questions about a run, which change nothing: the value of an expression over its state, and what it waits for.

>>> from wonder_ray.fold import new_state
>>> evaluate_query(new_state("run_x"), "size(state)")
0
>>> waiting_of(new_state("run_x"))
[]
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.planning.scope import expression_scope
from wonder_ray.state import RunStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Child, Group, Token


class Waiting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a run waits for.

    Attributes:
        kind: `gate`, `signal`, `timer`, `child` (run), `group` (that takes members from outside), `guard`, `lock` or `pause`.
        node_id: Where; of a group, the node that opened it.
        token_id: Whose; what `answer` takes where several gates are open at one node.
        name: The signal's name, the group's name, the child's run id, why the run was paused.
        since_us: Since when, microseconds UTC, where that is known.
        deadline_us: When it times out; of a timer, when it goes off.
        assignee: Who is asked.
        shown: What who answers is shown.
        asked: How often the gate has asked.
        schema: What an answer or payload must be, a JSON Schema.
    """

    kind: str
    node_id: str = ""
    token_id: str | None = None
    name: str | None = None
    since_us: int | None = None
    deadline_us: int | None = None
    assignee: Any = None
    shown: Any = None
    asked: int = 1
    schema: dict[str, Any] | None = None


def evaluate_query(state: RunState, text: str) -> Any:
    """The value of a CEL expression over `input`, `state`, `output` and `run`; raises `ExpressionError`."""
    return compile_expression(text).evaluate(expression_scope(state, None))


def gates_of(state: RunState, graph: Graph | None = None) -> list[Waiting]:
    """The open gates, node by node, longest open first; the graph tells what their answers must be."""
    return [_of_token(token, graph) for token in _waits(state, (TokenStatus.WAITING_FOR_GATE,))]


def waiting_of(state: RunState, graph: Graph | None = None, most: int | None = None) -> list[Waiting]:
    """What a run waits for, at most so much of it; first what somebody can do something about, then what comes by itself.

    The graph tells the names of signals, what answers must be, and guards from locks.
    """
    found = chain(
        _pause(state),
        (_of_token(token, graph) for token in _waits(state, (TokenStatus.WAITING_FOR_GATE, TokenStatus.WAITING_FOR_SIGNAL))),
        (_of_group(state, state.groups[group_id]) for group_id in state.index.open_groups),
        _held_back(state, graph),
        (_of_token(token, graph) for token in _waits(state, (TokenStatus.WAITING_FOR_TIMER,))),
        (_of_child(state, child) for child in state.children.values()),
    )
    return list(islice(found, most))


def _pause(state: RunState) -> Iterator[Waiting]:
    if state.run.status is RunStatus.PAUSED:
        yield Waiting(kind="pause", name=state.run.pause_reason or None)


def _waits(state: RunState, kinds: tuple[TokenStatus, ...]) -> Iterator[Token]:
    """The tokens that wait so; all that wait at one node do it in the same way."""
    for kind in kinds:
        for token_ids in state.index.waits.values():
            if state.tokens[next(iter(token_ids))].status is kind:
                yield from (state.tokens[token_id] for token_id in token_ids)


def _of_token(token: Token, graph: Graph | None) -> Waiting:
    node = None if graph is None else graph.nodes.get(token.node_id)
    gate, signal = (None, None) if node is None else (node.gate, node.signal)
    wait = token.wait
    assert wait is not None, "a token that waits for the world knows since when"
    return Waiting(
        kind=token.status.removeprefix("waiting_for_"),
        node_id=token.node_id,
        token_id=token.id,
        name=None if signal is None else signal.name,
        since_us=wait.since_us,
        deadline_us=wait.deadline_us,
        assignee=wait.assignee,
        shown=wait.shown,
        asked=wait.asked,
        schema=gate.answer if gate is not None else signal.payload if signal is not None else None,
    )


def _of_group(state: RunState, group: Group) -> Waiting:
    return Waiting(kind="group", node_id=state.tokens[group.opener_id].node_id, name=group.name, deadline_us=group.due_us)


def _of_child(state: RunState, child: Child) -> Waiting:
    token = state.tokens[child.token_id]
    return Waiting(kind="child", node_id=token.node_id, token_id=token.id, name=child.id, deadline_us=token.due_us)


def _held_back(state: RunState, graph: Graph | None) -> Iterator[Waiting]:
    """Pending tokens that a guard or a lock keeps from starting: a planner has set them apart, a fold knows them by the rest."""
    index = state.index
    held: Iterable[str] = ()
    if state.run.status is RunStatus.WAITING:
        held = index.parked or [token_id for _, token_id in chain(*index.ready.values(), index.fresh)]
    for token in (state.tokens[token_id] for token_id in held):
        if token.status is not TokenStatus.PENDING:
            continue
        node = None if graph is None else graph.nodes.get(token.node_id)
        locked = token.wanted or (node is not None and node.guard is None)
        yield Waiting(kind="lock" if locked else "guard", node_id=token.node_id, token_id=token.id)
