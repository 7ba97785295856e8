"""A state that notes what changes in it, so that a turn writes no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.run_state import RunState
from wonder_ray.state import Run, Token

if TYPE_CHECKING:
    from wonder_ray.decisions import Write
    from wonder_ray.state import Child, Fanout, Group, Kept, TokenStatus, Undo


class Changes:
    """Which records events have changed since the last commit: what the store has to write."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.groups: dict[str, Group] = {}
        self.fanouts: dict[str, Fanout] = {}
        self.writes: list[tuple[str, Write]] = []
        self.iterations: dict[tuple[str, str], int] = {}
        """(scope, transition) -> firings; and (join, transition) -> 1 while it is taken in a round of the join, then 0."""
        self.records: dict[tuple[str, str], Kept | Child | Undo | None] = {}
        """(kind, id) -> what is kept of signals, answers, child runs and undos; None when it no longer is."""


class Folding(RunState):
    """A state that notes what changes in it."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.changes = Changes()

    def changed_group(self, group_id: str) -> Group:
        """A group that is about to be changed."""
        group = self.groups[group_id]
        self.changes.groups[group_id] = group
        return group

    def set_status(self, token: Token, to: TokenStatus) -> None:
        """Change a token's status, what is counted by it, and note the change."""
        self.index.move(token, to)
        self.changes.tokens[token.id] = token

    def keep(self, kept: Kept) -> None:
        """A signal or an answer has come."""
        self.kept[kept.id] = kept
        self.changes.records["kept", kept.id] = kept

    def unkeep(self, kept_id: str) -> Kept:
        """It has been consumed, refused or dropped."""
        self.changes.records["kept", kept_id] = None
        return self.kept.pop(kept_id)

    def put_child(self, child: Child) -> None:
        """A child run is new, or has changed."""
        self.children[child.id] = child
        self.changes.records["child", child.id] = child

    def put_undo(self, undo: Undo) -> None:
        """Work can be taken back."""
        self.undos[undo.id] = undo
        self.changes.records["undo", undo.id] = undo

    def drop_record(self, kind: str, record_id: str) -> None:
        """A child run has ended, or work was taken back."""
        found: dict[str, Any] = {"child": self.children, "undo": self.undos}
        del found[kind][record_id]
        self.changes.records[kind, record_id] = None


def new_state(run_id: str) -> Folding:
    """The state before the first event."""
    return Folding(Run(run_id=run_id))
