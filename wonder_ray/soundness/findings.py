"""What is wrong with a step that was explored, or with all that was explored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from wonder_ray import workflow_events as ev
from wonder_ray.definitions.graph import INCOMING
from wonder_ray.soundness.choosing import FreeCondition, FreeThreshold
from wonder_ray.state import TERMINAL_RUN, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.soundness.conditions import Atom
    from wonder_ray.soundness.stepping import Stepped
    from wonder_ray.state import ErrorRecord, Token

Key = tuple[str, str, bool]
Kind = Literal["waits_for_ever", "mutex_deadlock", "left_behind", "never_joined", "never_runs", "never_completes"]
KINDS: Final[tuple[Kind, ...]] = (
    "waits_for_ever", "mutex_deadlock", "never_completes", "never_runs", "left_behind", "never_joined",
)  # fmt: skip


UNMET: Final = frozenset({"Deadlock", "JoinUnsatisfied", "GroupNotOpen"})
"""Errors of joins that come of the definition, and not of a failure or of time."""
_TAKEN: Final = (ev.GroupFailureTolerated, ev.GroupFailed, ev.WorkflowFailed)


class Finding(NamedTuple):
    """One thing that is wrong; the first with its kind and place is kept."""

    kind: Kind
    place: str
    """The node or group it is about."""
    message: str
    sure: bool = True
    """False where it is for data to say, since an `m` depends on it."""

    @property
    def key(self) -> Key:
        """What makes two findings one."""
        return (self.kind, self.place, self.sure)


def findings_of(graph: Graph, stepped: Stepped, *, blamed: bool) -> Iterator[Finding]:
    """What a step shows; `blamed` when an unhandled failure came before it, which explains that a join is not met."""
    state = stepped.state
    for event in stepped.events:
        match event:
            case ev.WorkflowFailed() if event.error.type in UNMET and not blamed:
                found = _unmet(graph, event.error, stepped)
                yield found._replace(sure=found.sure and not has_asked_too_much(graph, stepped))
            case ev.GroupOpened() if event.name not in graph.group_joins:
                message = f"group {event.name!r}, opened at {event.node_id!r}, is never joined"
                yield Finding("never_joined", event.name, message)
            case ev.GroupClosed() if not blamed:
                yield from _closed(graph, stepped, event.group_id)
            case ev.TokenCompleted():
                yield from _left(graph, stepped, state.tokens[event.token_id])
    if state.run.status in TERMINAL_RUN:
        yield from _cut_off(graph, stepped)


def is_unhandled(stepped: Stepped) -> bool:
    """Whether a node failed in this step, and not the node but a group or the run took it."""
    outcome = stepped.move.outcome
    failed = (outcome is not None and outcome.error is not None) or bool(stepped.broken)
    return failed and any(isinstance(event, _TAKEN) for event in stepped.events)


def has_asked_too_much(graph: Graph, stepped: Stepped) -> bool:
    """Whether a group failed in this step since data asked for more arrivals than came: that explains what it leads to."""
    return any(isinstance(event, ev.GroupFailed) and _asks_too_much(graph, event.error) for event in stepped.events)


def _asks_too_much(graph: Graph, error: ErrorRecord) -> bool:
    if error.type != "JoinUnsatisfied":
        return False
    joins = (*graph.group_joins.values(), *graph.incoming_joins.values())
    at = [join for join in joins if join.node == error.node_id and (join.over == INCOMING or repr(join.over) in error.message)]
    return any(isinstance(join.m, FreeThreshold) and join.m.is_free for join in at)


def stuck(state_tokens: list[Token]) -> Finding:
    """Nothing can happen any more, and tokens are left."""
    nodes = list(dict.fromkeys(token.node_id for token in state_tokens))
    return Finding("waits_for_ever", nodes[0], f"{_listed(nodes)} can wait for ever: nothing else is left that could happen")


def _unmet(graph: Graph, error: ErrorRecord, stepped: Stepped) -> Finding:
    if error.type == "Deadlock":
        return _deadlock(error, stepped)
    node = error.node_id or ""
    if error.type == "GroupNotOpen":
        return Finding("waits_for_ever", node, f"{node!r} can lead to a join whose group is not open: {error.message}")
    if _asks_too_much(graph, error):
        message = f"the join at {node!r} fails where its m, which depends on data, asks for more arrivals than come"
        return Finding("waits_for_ever", node, message, sure=False)
    return Finding("waits_for_ever", node, f"a join can wait for what never comes: {error.message}")


def _deadlock(error: ErrorRecord, stepped: Stepped) -> Finding:
    cancelled = [stepped.state.tokens[e.token_id] for e in stepped.events if isinstance(e, ev.TokenCancelled)]
    asking = [token for token in cancelled if token.wanted]
    if not asking:
        return Finding("waits_for_ever", cancelled[0].node_id if cancelled else "", error.message)
    names = sorted({name for token in asking for name in token.wanted})
    nodes = _listed(sorted(token.node_id for token in asking))
    locks = _listed(name.removeprefix("mutex:") for name in names)
    return Finding("mutex_deadlock", " and ".join(names), f"{nodes} can wait for ever for {locks}, which no other will release")


def _closed(graph: Graph, stepped: Stepped, group_id: str) -> Iterator[Finding]:
    group = stepped.state.groups[group_id]
    join = graph.group_joins.get(group.name)
    if join is not None and not group.failures and str(group.status) == "skipped":
        message = f"group {group.name!r} can end without its join at {join.node!r}: none of its branches arrives there"
        yield Finding("never_joined", group.name, message)


def _left(graph: Graph, stepped: Stepped, token: Token) -> Iterator[Finding]:
    """A branch that ends before its join: the join goes on without it."""
    group = stepped.state.groups.get(token.group_id or "")
    join = graph.group_joins.get(group.name) if group is not None else None
    if group is None or join is None or token.join_id is not None or _goes_on(graph, stepped, token):
        return
    message = f"a branch of group {group.name!r} can end at {token.node_id!r} without reaching its join at {join.node!r}"
    yield Finding("left_behind", token.node_id, message)


def _goes_on(graph: Graph, stepped: Stepped, token: Token) -> bool:
    """Whether a transition fired; one that makes no tokens (nothing to fan out to, a join that fired before) is one, too."""
    if any(isinstance(e, ev.TokenCreated | ev.FanOutStarted) and _source(e) == token.id for e in stepped.events):
        return True
    decided = stepped.decided.get(token.id, {})
    return any(_fires(edge, decided) for tier in graph.tiers(token.node_id, "completed") for edge in tier)


def _fires(edge: Edge, decided: Mapping[Atom, bool]) -> bool:
    if not isinstance(edge.when, FreeCondition):
        return True
    condition = edge.when.condition
    return condition.constant is True or decided.get(condition.atom) is condition.holds


def _source(event: ev.TokenCreated | ev.FanOutStarted) -> str | None:
    return event.token_id if isinstance(event, ev.FanOutStarted) else event.parent_id


def _cut_off(graph: Graph, stepped: Stepped) -> Iterator[Finding]:
    """A terminate node that ends a run in which something else goes on."""
    if stepped.state.run.status is not RunStatus.COMPLETED:
        return
    left = [stepped.state.tokens[e.token_id].node_id for e in stepped.events if isinstance(e, ev.TokenCancelled)]
    ended = [
        e.node_id for e in stepped.events if isinstance(e, ev.NodeCompleted) and graph.nodes[e.node_id].terminate is not None
    ]
    if left and ended:
        others = "goes on" if len(set(left)) == 1 else "go on"
        yield Finding("left_behind", ended[-1], f"{ended[-1]!r} can end the run while {_listed(left)} {others}")


def _listed(nodes: Iterable[str], most: int = 5) -> str:
    """A few nodes, each once, in words."""
    names = [repr(node) for node in dict.fromkeys(nodes)]
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
