"""A run's state: tokens, sibling groups, fan-outs, the scoped context; and the moves that are legal.

The state is only ever changed by `wonder_ray.fold.evolve`, one workflow event at a time, both while a run is live and
when its history is folded. Planners read it and return decisions. A *token* is one position of execution: it is created
at a node, is dispatched (or waits), and ends in one terminal status; every transition it takes creates new tokens.
A *group* is one firing of a split that named it: its members are the live tokens whose innermost group it is, plus its
open inner groups. A *scope* is the overlay of the context that one branch writes to; it bears the id of the branch's
first token, and the run's own scope is `ROOT_SCOPE`.

Legal moves stand in `TOKEN_TRANSITIONS` and `RUN_TRANSITIONS`; any other move raises `IllegalTransitionError`.

>>> TokenStatus.PENDING in TOKEN_TRANSITIONS[TokenStatus.WAITING_FOR_RETRY]
True
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from wonder_ray.errors import IllegalTransitionError

ROOT_SCOPE: Final = ""
ROOT_PATH: Final = "root"
INCOMING_PREFIX: Final = "incoming:"
"""What ids of joins over `incoming` begin with; no id of a token or group does."""


class TokenStatus(StrEnum):
    """Where a token stands. `executing` is observed live and never stored."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    WAITING_FOR_SIBLINGS = "waiting_for_siblings"
    WAITING_FOR_RETRY = "waiting_for_retry"
    WAITING_FOR_GATE = "waiting_for_gate"
    WAITING_FOR_SIGNAL = "waiting_for_signal"
    WAITING_FOR_TIMER = "waiting_for_timer"
    WAITING_FOR_CHILD = "waiting_for_child"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """Nothing is under way: it goes on when an answer, a signal, a time or a child comes."""
    PAUSED = "paused"
    """Nothing new is started; what is under way comes to its end."""
    CANCELLING = "cancelling"
    """It will end, and waits for its child runs to end before."""
    COMPENSATING = "compensating"
    """It will end, and takes back what its nodes did before."""
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class GroupStatus(StrEnum):
    """Where a sibling group stands: open until its join fires, it fails, is cancelled, or its last member has ended."""

    OPEN = "open"
    PASSING = "passing"
    """Its join has fired, and each member that is left will pass it: it counts as live until the last has."""
    FIRED = "fired"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


_T = TokenStatus
_R = RunStatus

TOKEN_TRANSITIONS: Final = MappingProxyType(
    {
        _T.PENDING: frozenset(
            {
                *(_T.DISPATCHED, _T.WAITING_FOR_SIBLINGS, _T.COMPLETED, _T.FAILED, _T.CANCELLED),
                *(_T.WAITING_FOR_GATE, _T.WAITING_FOR_SIGNAL, _T.WAITING_FOR_TIMER, _T.WAITING_FOR_CHILD),
            }
        ),
        _T.DISPATCHED: frozenset({_T.PENDING, _T.WAITING_FOR_RETRY, _T.COMPLETED, _T.FAILED, _T.TIMED_OUT, _T.CANCELLED}),
        _T.WAITING_FOR_SIBLINGS: frozenset({_T.COMPLETED, _T.CANCELLED}),
        _T.WAITING_FOR_RETRY: frozenset({_T.PENDING, _T.CANCELLED}),
        _T.WAITING_FOR_GATE: frozenset({_T.PENDING, _T.COMPLETED, _T.FAILED, _T.TIMED_OUT, _T.CANCELLED}),
        _T.WAITING_FOR_SIGNAL: frozenset({_T.PENDING, _T.COMPLETED, _T.FAILED, _T.TIMED_OUT, _T.CANCELLED}),
        _T.WAITING_FOR_TIMER: frozenset({_T.PENDING, _T.COMPLETED, _T.FAILED, _T.CANCELLED}),
        _T.WAITING_FOR_CHILD: frozenset({_T.PENDING, _T.WAITING_FOR_RETRY, _T.COMPLETED, _T.FAILED, _T.TIMED_OUT, _T.CANCELLED}),
        _T.COMPLETED: frozenset[_T](),
        _T.FAILED: frozenset[_T](),
        _T.TIMED_OUT: frozenset[_T](),
        _T.CANCELLED: frozenset[_T](),
    }
)
_ENDS: Final = frozenset({_R.COMPLETED, _R.FAILED, _R.TIMED_OUT, _R.CANCELLED})
RUN_TRANSITIONS: Final = MappingProxyType(
    {
        _R.QUEUED: frozenset({_R.RUNNING}),
        _R.RUNNING: frozenset({_R.WAITING, _R.PAUSED, _R.CANCELLING}) | _ENDS,
        _R.WAITING: frozenset({_R.RUNNING, _R.PAUSED, _R.CANCELLING}) | _ENDS,
        _R.PAUSED: frozenset({_R.RUNNING, _R.CANCELLING}) | _ENDS,
        _R.CANCELLING: frozenset({_R.COMPENSATING}) | _ENDS,
        _R.COMPENSATING: _ENDS,
        _R.COMPLETED: frozenset[_R](),
        _R.FAILED: frozenset[_R](),
        _R.TIMED_OUT: frozenset[_R](),
        _R.CANCELLED: frozenset[_R](),
    }
)
TERMINAL_TOKEN: Final = frozenset(status for status, moves in TOKEN_TRANSITIONS.items() if not moves)
HELD_OPEN: Final = frozenset({GroupStatus.OPEN, GroupStatus.PASSING})
"""Groups that count as live in the scope, the branch and the group of their opener."""
TERMINAL_RUN: Final = frozenset(status for status, moves in RUN_TRANSITIONS.items() if not moves)
GOING_RUN: Final = frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED})
"""Runs that have begun and whose end is not decided."""
WAITS: Final = frozenset({TokenStatus.WAITING_FOR_GATE, TokenStatus.WAITING_FOR_SIGNAL, TokenStatus.WAITING_FOR_TIMER})
"""Tokens that wait for the world, and that a guard can withdraw."""


class ErrorRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong with a node, as routing and users see it: `error.type`, `error.message`."""

    type: str
    message: str
    retryable: bool = True
    kind: str = "user"
    """Who failed: user, result, code, lost, timeout, oom, node, expression, loop, join, guard, child, workflow."""
    node_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The value of `error` in expressions, of a run's error, and of events."""
        return {"type": self.type, "message": self.message, "kind": self.kind, "node_id": self.node_id}


class Wait(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a token at a gate, signal or timer waits for, and since when."""

    since_us: int
    at: int
    """The sequence number of the event with which it began: who waits first is served first."""
    deadline_us: int | None = None
    """When it times out; for a timer, when it goes off."""
    assignee: Any = None
    level: int = 0
    """How often the gate was escalated."""
    asked: int = 1
    """How often the gate has asked."""
    shown: Any = None
    """What who answers is shown."""


class Token(msgspec.Struct, kw_only=True, gc=False):
    """One position of execution."""

    id: str
    ordinal: int
    """1, 2, 3, ... in the order of creation."""
    node_id: str
    status: TokenStatus = TokenStatus.PENDING
    path_id: str = ROOT_PATH
    parent_id: str | None = None
    transition_id: str | None = None
    scope_id: str = ROOT_SCOPE
    group_id: str | None = None
    """The innermost sibling group it is a member of."""
    fanout_id: str | None = None
    index: int | None = None
    """Its branch number in `fanout_id`; both are inherited along transitions."""
    join_id: str | None = None
    """For an arrival: the group id, or `incoming_id(node, scope)`, of the join it waits at (or was absorbed by)."""
    attempt: int = 0
    epoch: int = 0
    """The coordinator epoch that dispatched the open attempt."""
    failures: dict[str, int] = {}
    """Charged failures by retry rule (its position in the node)."""
    solo: bool = False
    """Run alone: a batch that held it died."""
    due_us: int | None = None
    """When its retry is due, or when its open attempt times out."""
    input: Any = None
    """The rendered keyword arguments, fixed at the first dispatch."""
    result: Any = None
    error: ErrorRecord | None = None
    cause: ErrorRecord | None = None
    """The failure that an `on: failed` or `on: group_failed` transition handed to it."""
    wait: Wait | None = None
    race_id: str | None = None
    """The race it is an alternative of: the first of them to end withdraws the others."""
    holds: tuple[str, ...] = ()
    """The locks it holds while it is live; successors at nodes with the same mutex take them over."""
    wanted: tuple[str, ...] = ()
    """The locks it waits for."""
    wanted_at: int = 0
    """The sequence number of the event with which it began to wait for them."""
    undo_of: str | None = None
    """The token whose work it takes back."""
    child_id: str | None = None
    """The child run of its last attempt."""


class Group(msgspec.Struct, kw_only=True, gc=False):
    """One instance of a sibling group."""

    id: str
    ordinal: int
    name: str
    opener_id: str
    """The token whose split opened it; its join token takes this token's path, scope and membership."""
    parent_id: str | None = None
    status: GroupStatus = GroupStatus.OPEN
    size: int = 0
    """Members it ever had."""
    active: int = 0
    """Live members that have not arrived at its join; an open inner group counts as one."""
    arrived: int = 0
    failures: int = 0
    """Tolerated failures so far."""
    tolerated: int | float | None = None
    open: bool = False
    """Whether members can be added from outside."""
    added: int = 0
    """How often members were."""
    complete: bool = False
    """Whether its join is to fire with what there is."""
    due_us: int | None = None
    """When its join has waited long enough."""


class Fanout(msgspec.Struct, kw_only=True, gc=False):
    """One firing of a transition with `foreach` or `spawn_count`: where its branches find `item` and `index`."""

    id: str
    ordinal: int
    transition_id: str
    parent_id: str
    count: int
    items: list[Any] | None = None
    item_name: str = "item"
    max_concurrency: int | None = None
    outer_id: str | None = None
    outer_index: int | None = None
    """The fan-out and branch that the splitting token was in itself."""
    first: int = 0
    """What `index` begins with: more than 0 where members were added to a fan-out."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal, or an answer to a gate, that nobody has consumed yet."""

    id: str
    ordinal: int
    """The sequence number of the event with which it came."""
    kind: str
    """`signal` or `answer`."""
    name: str
    """The signal's name; the gate's node, or token."""
    payload: Any = None
    by: str | None = None


class Child(msgspec.Struct, kw_only=True, gc=False):
    """A child run that has not ended."""

    id: str
    """Its run id."""
    ordinal: int
    token_id: str
    attempt: int
    workflow: str
    version: str | None = None
    """None: whatever is the latest when it starts."""
    input: Any = None
    started: bool = False
    """Whether it is known to exist."""
    cancelled: str | None = None
    """Why it was told to end."""


class Undo(msgspec.Struct, kw_only=True, gc=False):
    """Work of a completed node that can be taken back."""

    id: str
    """The token that did it."""
    ordinal: int
    node_id: str
    """The undo node."""
    input: Any = None


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run will end, once its children have ended and its work is taken back."""

    status: RunStatus
    error: ErrorRecord | None = None
    reason: str = ""
    output: Any = None
    compensate: bool = False


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a forked run comes from."""

    run_id: str
    sequence: int
    """The event of that run at the end of whose turn it began."""


class Run(msgspec.Struct, kw_only=True):
    """What a run is, beside its tokens."""

    run_id: str
    workflow_name: str = ""
    workflow_version: str = ""
    status: RunStatus = RunStatus.QUEUED
    input: Any = None
    output: Any = None
    error: ErrorRecord | None = None
    started_us: int | None = None
    ended_us: int | None = None
    deadline_us: int | None = None
    """When the run times out."""
    cancel_reason: str | None = None
    pause_reason: str | None = None
    ending: Ending | None = None
    depth: int = 0
    """How many runs are above it."""
    forked_from: Lineage | None = None
    turn: int = 0
    sequence: int = 0
    """The sequence number of its last event."""


def incoming_id(node_id: str, scope_id: str) -> str:
    """The id of a join over `incoming`: one instance per node and enclosing branch."""
    return f"{INCOMING_PREFIX}{node_id}:{scope_id}"


def incoming_place(join_id: str) -> tuple[str, str]:
    """(node, scope) of the id of a join over `incoming`.

    >>> incoming_place(incoming_id("merge", "t_1"))
    ('merge', 't_1')
    """
    node_id, _, scope_id = join_id.removeprefix(INCOMING_PREFIX).rpartition(":")
    return node_id, scope_id


def check_token_move(token: Token, to: TokenStatus) -> None:
    """Raise unless the token may go from its status to `to`."""
    if to not in TOKEN_TRANSITIONS[token.status]:
        msg = f"token {token.id} at node {token.node_id!r} cannot go from {token.status} to {to}"
        raise IllegalTransitionError(msg)


def check_run_move(run: Run, to: RunStatus) -> None:
    """Raise unless the run may go from its status to `to`."""
    if to not in RUN_TRANSITIONS[run.status]:
        msg = f"run {run.run_id} cannot go from {run.status} to {to}"
        raise IllegalTransitionError(msg)
