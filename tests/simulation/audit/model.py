"""The auditor's own picture of a run, built from event rows only: plain records, and slow questions about all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.ids import derive_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.audit.reading import Reading

ENDED: Final = frozenset({"completed", "failed", "timed_out", "cancelled"})
HELD: Final = frozenset({"open", "passing"})
RUN_ENDED: Final = frozenset({"completed", "failed", "timed_out", "cancelled"})
GOING: Final = frozenset({"running", "waiting", "paused"})
WAITS: Final = frozenset({"waiting_for_gate", "waiting_for_signal", "waiting_for_timer"})
LOSSES: Final = frozenset({"lost", "oom", "node"})


@dataclass
class MWait:
    """Since when a token waits for the world, and until when."""

    since_us: int
    at: int
    deadline_us: int | None
    level: int = 0


@dataclass
class MKept:
    """A signal or an answer that nobody has consumed."""

    id: str
    kind: str
    name: str
    payload: Any


@dataclass
class MChild:
    """A child run that has not ended."""

    id: str
    token: str
    is_started: bool = False
    is_cancelled: bool = False


@dataclass
class MToken:
    """A token."""

    id: str
    born: int
    node: str
    path: str
    parent: str | None
    transition: str | None
    scope: str
    group: str | None
    fanout: str | None
    index: int | None
    cause: dict[str, Any] | None = None
    status: str = "pending"
    attempt: int = 0
    epoch: int = 0
    solo: bool = False
    waits_at: str | None = None
    arrived: int = 0
    """Its place in the order of all arrivals."""
    due_us: int | None = None
    given: Any = None
    result: Any = None
    error: dict[str, Any] | None = None
    failures: dict[str, int] = field(default_factory=dict)
    wait: MWait | None = None
    race: str | None = None
    holds: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    wanted_at: int = 0
    undo_of: str | None = None
    child: str | None = None

    def __repr__(self) -> str:
        told: dict[str, Any] = {
            "at": self.node,
            "path": self.path,
            "group": self.group,
            "scope": self.scope,
            "waits_at": self.waits_at,
        }
        told |= {"attempt": self.attempt, "due_us": self.due_us, "holds": self.holds, "wanted": self.wanted, "child": self.child}
        return f"<{self.status} token {self.id} " + ", ".join(f"{name} {value}" for name, value in told.items() if value) + ">"

    @property
    def is_live(self) -> bool:
        return self.status not in ENDED


@dataclass
class MGroup:
    """One instance of a group."""

    id: str
    born: int
    name: str
    opener: str
    parent: str | None
    tolerated: int | float | None
    status: str = "open"
    size: int = 0
    failures: int = 0
    is_open: bool = False
    """Whether members can be added from outside."""
    is_complete: bool = False
    """Whether its join is to fire with what there is."""
    due_us: int | None = None

    def __repr__(self) -> str:
        more = f", in {self.parent}" if self.parent else ""
        return f"<{self.status} group {self.id} {self.name!r} of {self.opener}{more}, size {self.size}, {self.failures} failed>"


@dataclass
class MFanout:
    """One firing of a transition that fans out."""

    id: str
    transition: str
    parent: str
    count: int
    items: list[Any] | None
    item: str
    limit: int | None
    outer: str | None
    outer_index: int | None
    first: int = 0


@dataclass
class Model:
    """A run."""

    run_id: str
    reading: Reading
    status: str = "queued"
    input: Any = None
    name: str = ""
    version: str = ""
    started_us: int | None = None
    deadline_us: int | None = None
    tokens: dict[str, MToken] = field(default_factory=dict)
    groups: dict[str, MGroup] = field(default_factory=dict)
    fanouts: dict[str, MFanout] = field(default_factory=dict)
    context: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"": {"state": {}, "output": {}}})
    around: dict[str, str] = field(default_factory=dict)
    """Scope -> the scope around it."""
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    """(scope, transition) -> how often it has fired."""
    rounds: dict[str, set[str]] = field(default_factory=dict)
    """Join over `incoming` -> the transitions taken in the round that is open."""
    arrivals: int = 0
    kept: dict[str, MKept] = field(default_factory=dict)
    children: dict[str, MChild] = field(default_factory=dict)
    undos: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Token -> (undo node, input), in the order in which the work was done."""
    ending: dict[str, Any] | None = None
    depth: int = 0

    # --- tokens and groups ---------------------------------------------------------------------------------------

    def live(self) -> Iterator[MToken]:
        """Tokens that have not ended."""
        return (token for token in self.tokens.values() if token.is_live)

    def waiting_at(self, join_id: str) -> list[MToken]:
        """Tokens that wait at a join, in order of arrival."""
        found = (token for token in self.tokens.values() if token.status == "waiting_for_siblings" and token.waits_at == join_id)
        return sorted(found, key=lambda token: token.arrived)

    def chain(self, group_id: str | None) -> Iterator[MGroup]:
        """A group and those around it, innermost first."""
        while group_id is not None:
            yield self.groups[group_id]
            group_id = self.groups[group_id].parent

    def is_within(self, group_id: str | None, outer_id: str) -> bool:
        """Whether a group is another, or lies in it."""
        return any(group.id == outer_id for group in self.chain(group_id))

    def members(self, group_id: str) -> list[MToken]:
        """Live tokens in a group and in all groups inside it."""
        return [token for token in self.live() if self.is_within(token.group, group_id)]

    def active(self, group_id: str) -> int:
        """Live members that have not arrived at the group's join; an open inner group counts as one (R1)."""
        tokens = sum(1 for t in self.live() if t.group == group_id and not (t.waits_at == group_id and t.status == WAITING))
        return tokens + sum(1 for group in self.groups.values() if group.parent == group_id and group.status in HELD)

    def nearest(self, group_id: str | None, name: str) -> MGroup | None:
        """The nearest enclosing instance of a named group (R3)."""
        return next((group for group in self.chain(group_id) if group.name == name), None)

    def add_fanout(self, row: dict[str, Any], born: int) -> list[MToken]:
        """A fan-out and the tokens it stands for; their ids are derived."""
        parent = self.tokens[row["token_id"]]
        fanout = MFanout(
            row["fanout_id"], row["transition_id"], parent.id, row["count"], row.get("items"), row.get("item_name", "item"),
            row.get("max_concurrency"), parent.fanout, parent.index, row.get("first", 0),
        )  # fmt: skip
        self.fanouts[fanout.id] = fanout
        made = []
        for i in range(fanout.count):
            token_id = derive_id("t", fanout.id, i)
            path = f"{parent.path}.{escaped(parent.node)}.{row.get('first_branch', 0) + i}"
            scope = token_id if row.get("scoped", False) else parent.scope
            made.append(
                MToken(
                    token_id,
                    born,
                    row["node_id"],
                    path,
                    parent.id,
                    fanout.transition,
                    scope,
                    row.get("group_id"),
                    fanout.id,
                    i,
                    row.get("cause"),
                    race=row.get("race_id"),
                    holds=tuple(row.get("holds", ())),
                )
            )
        return made

    # --- the context ---------------------------------------------------------------------------------------------

    def view(self, scope: str) -> dict[str, dict[str, Any]]:
        """What a branch sees: its own writes over those around it (R9)."""
        found: dict[str, dict[str, Any]] = {"state": {}, "output": {}}
        if scope:
            found = self.view(self.around[scope])
        own = self.context.get(scope, {"state": {}, "output": {}})
        return {root: {**found[root], **own[root]} for root in ("state", "output")}

    def write(self, scope: str, target: str, value: Any) -> None:
        """Write a value to a branch's own context."""
        root, key, *path = target.split(".")
        own = self.context.setdefault(scope, {"state": {}, "output": {}})[root]
        own[key] = written(own[key] if key in own else self.view(scope)[root].get(key, {}), path, value)

    def frames(self, token: MToken) -> Iterator[tuple[MFanout, int]]:
        """The fan-out branches around a token, innermost first."""
        fanout_id, index = token.fanout, token.index
        while fanout_id is not None and index is not None:
            fanout = self.fanouts[fanout_id]
            yield fanout, index
            fanout_id, index = fanout.outer, fanout.outer_index

    def scope_of(self, token: MToken | None, result: Any = None, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The names in scope for a token (None: for the run as a whole)."""
        view = self.view("" if token is None else token.scope)
        run = {"id": self.run_id, "workflow": self.name, "version": self.version, "started_us": self.started_us}
        scope: dict[str, Any] = {"input": self.input, "state": view["state"], "output": view["output"], "run": run}
        if token is None:
            return scope
        scope["result"] = result
        scope["token"] = {
            "id": token.id, "node": token.node, "path": token.path, "attempt": token.attempt, "index": token.index
        }  # fmt: skip
        if error or token.cause:
            scope["error"] = as_error(error or token.cause or {})
        for fanout, index in self.frames(token):
            scope.setdefault("index", fanout.first + index)
            if fanout.items is not None:
                scope.setdefault(fanout.item, fanout.items[index])
        return scope


WAITING: Final = "waiting_for_siblings"


def written(tree: Any, path: list[str], value: Any) -> Any:
    """A copy of a tree with a value at a path."""
    if not path:
        return value
    return {**tree, path[0]: written(tree.get(path[0], {}), path[1:], value)}


def as_error(error: dict[str, Any]) -> dict[str, Any]:
    """An error as expressions see it."""
    return {
        "type": error["type"], "message": error["message"], "kind": error.get("kind", "user"), "node_id": error.get("node_id")
    }  # fmt: skip


def escaped(node: str) -> str:
    """A node id as a segment of a path."""
    return node.replace("%", "%25").replace(".", "%2E")


def path_order(path: str) -> list[tuple[int, int, str]]:
    """Paths compare segment by segment, numbers by value (R7)."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")]
