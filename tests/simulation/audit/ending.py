"""How a run ends (R11): what is live is withdrawn, children end, work is taken back, and then comes the terminal event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.simulation.audit.merging import Merging
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from tests.simulation.audit.model import MToken

    Error = dict[str, Any]

NOTHING: Final = object()


class Ending(Merging):
    """The rules of ends."""

    def read_ending(
        self, status: str, *, error: str | None = None, reason: str | None = None, output: Any = None, compensate: bool
    ) -> None:
        """Read that everything is withdrawn, and that the run ends: now, or when its children and its undos have."""
        self.take_cancels("R11", lambda _token: True, lambda _group: True)
        live = list(self.model.live())
        require(not live, "R11", f"the run is to end, and {live} is live")
        if self.model.children or (compensate and self.model.undos):
            row = self.take("R11", "workflow.ending")
            decided = row["ending"]
            require(decided["status"] == status, "R11", f"the run must end {status}: {row}")
            require(
                decided.get("compensate", False) == compensate, "R11", f"whether work is taken back must be {compensate}: {row}"
            )
            told = (decided.get("error") or {}).get("type"), decided.get("reason", ""), decided.get("output")
            require(told == (error, reason or "", output), "R11", f"the end must be {error, reason, output}: {row}")
            return
        self._read_terminal(status, error=error, reason=reason, output=output)

    def _read_terminal(self, status: str, *, error: str | None, reason: str | None, output: Any) -> None:
        require(not self.model.children, "R11", f"the run ends, and {self.model.children} have not")
        fields: dict[str, Any] = {}
        if status == "completed":
            fields["output"] = output
        if reason:
            fields["reason"] = reason
        row = self.take("R11", f"workflow.{status}", **fields)
        if error is not None:
            require(row["error"]["type"] == error, "R10", f"the run must end with {error}: {row}")
        self.count("R11")

    def output(self) -> Any:
        """The run's output as things stand; `NOTHING` where it has no value."""
        scope = self.model.scope_of(None)
        mapping = self.reading.definition.output
        try:
            return {name: self.reading.evaluate(text, scope) for name, text in mapping.items()} if mapping else scope["output"]
        except UndefinedError:
            return NOTHING

    # --- on the way ----------------------------------------------------------------------------------------------

    def go_on_ending(self) -> None:
        """Read what comes next in a run whose end is decided; nothing while a child, or an undo, is under way."""
        model = self.model
        while model.status in {"cancelling", "compensating"}:
            self._read_undone()
            ending = model.ending or {}
            if model.children or list(model.live()):
                return
            if ending.get("compensate", False) and model.undos:
                self._read_next_undo()
                continue
            self._read_terminal(
                ending["status"],
                error=(ending.get("error") or {}).get("type"),
                reason=ending.get("reason"),
                output=ending.get("output"),
            )

    def _read_undone(self) -> None:
        """Undos that have ended: their work is taken back, or cannot be."""
        while self.to_route:
            token, error = self.to_route.popleft()
            if token.undo_of is not None:
                self.take("R11", "compensation.completed" if error is None else "compensation.failed", token_id=token.undo_of)

    def _read_next_undo(self) -> None:
        """The last work first, one after the other."""
        if self.model.status == "cancelling":
            self.take("R11", "compensation.started", undos=len(self.model.undos))
        done_id, (node, _) = next(reversed(self.model.undos.items()))
        done = self.model.tokens[done_id]
        self.take(
            "R11", "token.created", node_id=node, path_id=done.path, parent_id=done_id, transition_id=None, scope_id=done.scope,
            group_id=None, fanout_id=done.fanout, index=done.index, undo_of=done_id,
        )  # fmt: skip

    def read_terminate(self, token: MToken) -> None:
        """Read that a token at a terminate node ends the run as that says."""
        node = self.reading.nodes[token.node]
        status, error_type = getattr(node, "status", "completed"), getattr(node, "error_type", "Terminated")
        output = self.output() if status == "completed" else None
        if status == "failed":
            self.read_ending("failed", error=error_type, compensate=True)
        elif output is NOTHING:
            self.read_ending("failed", error="ExpressionError", compensate=True)
        else:
            self.read_ending("completed", output=output, compensate=False)
