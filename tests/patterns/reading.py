"""What tests read of a run, once it is done: how often and in which order its nodes worked, and what was withdrawn."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.state import TERMINAL_TOKEN

if TYPE_CHECKING:
    from wonder_ray.fold import Folding
    from wonder_ray.state import Token

STARTS: Final = frozenset({"task.dispatched", "gate.opened", "signal.awaited", "timer.set", "subworkflow.requested"})
STOPS: Final = frozenset({"token.completed", "token.failed", "token.timed_out", "token.cancelled", "token.requeued"})


class Reading:
    """A run, on the core or on a cluster, that has its events and its state."""

    rows: list[dict[str, Any]]
    state: Folding

    @property
    def counts(self) -> dict[str, int]:
        """Node -> how often it completed, for nodes that did."""
        return dict(Counter(row["node_id"] for row in self.rows if row["event_type"] == "node_completed"))

    @property
    def live(self) -> list[tuple[str, str]]:
        """(node, status) of the tokens that have not ended, oldest first."""
        return [(token.node_id, str(token.status)) for token in self.tokens() if token.status not in TERMINAL_TOKEN]

    @property
    def cancelled(self) -> list[str]:
        """The nodes whose tokens were cancelled, in that order."""
        return [row["node_id"] for row in self.rows if row["event_type"] == "token.cancelled"]

    def tokens(self, *nodes: str, parent: Token | None = None) -> list[Token]:
        """The tokens of some nodes (else of all) that come from one token (else from any), oldest first."""
        return sorted(
            (
                token
                for token in self.state.tokens.values()
                if token.node_id in (nodes or (token.node_id,)) and (parent is None or token.parent_id == parent.id)
            ),
            key=lambda token: token.ordinal,
        )

    def begin(self, token: Token) -> int:
        """The sequence number at which the work of a token began, for the first time."""
        rows = (row for row in self.rows if row["event_type"] in STARTS and row["token_id"] == token.id)
        return int(next(rows)["sequence_number"])

    def end(self, token: Token) -> int:
        """The sequence number at which a token completed."""
        rows = (row for row in self.rows if row["event_type"] == "token.completed" and row["token_id"] == token.id)
        return int(next(rows)["sequence_number"])

    def turn_at(self, sequence: int) -> int:
        """The turn in which an event was written."""
        return int(self.rows[sequence - 1]["turn"])

    def starts(self, *nodes: str) -> list[int]:
        """The sequence numbers at which the work of each token of some nodes began, in order."""
        begun: dict[str, int] = {}
        for row in self.rows:
            if row["event_type"] in STARTS and row["node_id"] in nodes:
                begun.setdefault(row["token_id"], row["sequence_number"])
        return list(begun.values())

    def ends(self, *nodes: str) -> list[int]:
        """The sequence numbers at which tokens of some nodes completed, in order."""
        rows = (row for row in self.rows if row["event_type"] == "token.completed")
        return [row["sequence_number"] for row in rows if row["node_id"] in nodes]

    def sequence(self, *nodes: str) -> list[str]:
        """Some nodes in the order in which their work began."""
        begun = {at: node for node in nodes for at in self.starts(node)}
        return [begun[at] for at in sorted(begun)]

    def in_order(self, earlier: str, later: str) -> bool:
        """Whether every completion of one node precedes every start of another."""
        return max(self.ends(earlier), default=0) < min(self.starts(later), default=1 << 60)

    def keeps_step(self, earlier: str, later: str) -> bool:
        """Whether the nth start of one node always follows the nth completion of another."""
        ends, starts = self.ends(earlier), self.starts(later)
        return len(starts) <= len(ends) and all(end < start for end, start in zip(ends, starts, strict=False))

    def at_a_time(self, *nodes: str) -> int:
        """The most tokens of some nodes whose work went on at the same time."""
        most = 0
        working: set[str] = set()
        for row in self.rows:
            if row.get("node_id") not in nodes:
                continue
            if row["event_type"] in STARTS:
                working.add(row["token_id"])
            elif row["event_type"] in STOPS:
                working.discard(row["token_id"])
            most = max(most, len(working))
        return most


def check_blocking(run: Reading, *branches: str, needed: int, opener: str = "a", join: str = "join") -> int:
    """Every activation fires in the turn in which it has its arrivals and all earlier ones have reset; how many had to wait.

    The activations are those of one node of one branch, whose direct successors are `branches`.
    """
    reset = blocked = 0
    for token in sorted(run.tokens(opener), key=run.end):
        arrivals = sorted(run.end(branch) for branch in run.tokens(*branches, parent=token))
        (fired,) = run.tokens(join, parent=token)
        assert run.turn_at(run.begin(fired)) == run.turn_at(max(arrivals[needed - 1], reset))
        blocked += arrivals[needed - 1] < reset
        reset = max(reset, arrivals[-1])
    return blocked
