"""The builder's nodes that run no code of the user: gates, signals, timers, expressions, and the end of a run.

>>> Escalate(3600, "'the boss'").after_s
3600.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

from wonder_ray.definitions import models
from wonder_ray.definitions.authoring.base import Draft, NodeSettings, schema_of
from wonder_ray.definitions.making import make

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.definitions.authoring.base import Schema


class Waits(Draft):
    """Adds nodes that the coordinator sees to by itself."""

    def compute(
        self,
        id: str,  # noqa: A002 - the field's name
        *,
        output: Mapping[str, str] | None = None,
        start: bool = False,
        **settings: Unpack[NodeSettings],
    ) -> str:
        """Add a node that only evaluates its output expressions, in the coordinator; gives its id.

        Example:
            >>> Waits().compute("count", output={"state.n": "state.n + 1"})
            'count'
        """
        return self._add(models.ComputeNode, id, {"output": dict(output or {})}, settings, start=start)

    def gate(
        self,
        id: str,  # noqa: A002 - the field's name
        answer: Schema = None,
        *,
        assignee: str | None = None,
        input: Mapping[str, str] | None = None,  # noqa: A002 - the field's name
        output: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        escalate: models.Escalation | Sequence[models.Escalation] = (),
        start: bool = False,
        **settings: Unpack[NodeSettings],
    ) -> str:
        """Add a node that waits for an answer from outside: a decision of a person, usually. Gives its id.

        Args:
            id: Unique in the workflow; what `run.answer` names.
            answer: What an answer must be: a type, a pydantic model, a JSON Schema; None accepts any JSON.
            assignee: The expression that says who is asked; quote a fixed name, as in `"'alice'"`.
            input: What who answers is shown: name -> expression.
            output: Target -> expression over `result`, which is the answer.
            timeout_s: Seconds until the gate times out; a transition with `on="timed_out"` goes on from there.
            escalate: Whom it asks next when nobody has answered.
            start: Whether a run begins here.
            **settings: Those of every node (see `node`).

        Example:
            >>> flow = Waits()
            >>> flow.gate("approve", bool, assignee="input.owner", escalate=[Escalate(3600, "'boss'")], timeout_s=86400,
            ...           input={"sum": "state.sum"}, output={"state.approved": "result"})
            'approve'
        """
        fields = {
            "answer": schema_of(answer, f"node {id!r}, answer"),
            "assignee": assignee,
            "input": dict(input or {}),
            "output": dict(output or {}),
            "timeout_s": timeout_s,
            "escalate": (escalate,) if isinstance(escalate, models.Escalation) else tuple(escalate),
        }
        return self._add(models.GateNode, id, fields, settings, start=start)

    def wait_signal(
        self,
        id: str,  # noqa: A002 - the field's name
        signal: str | None = None,
        *,
        payload: Schema = None,
        retained: bool = True,
        output: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        start: bool = False,
        **settings: Unpack[NodeSettings],
    ) -> str:
        """Add a node that waits for a signal from outside; gives its id.

        Args:
            id: Unique in the workflow.
            signal: The signal's name, what `run.signal` names; by default the node's id.
            payload: What its payload must be: a type, a pydantic model, a JSON Schema; None accepts any JSON.
            retained: Whether a signal that comes while nobody waits for it is kept; else it is lost.
            output: Target -> expression over `result`, which is the payload.
            timeout_s: Seconds until the wait times out; a transition with `on="timed_out"` goes on from there.
            start: Whether a run begins here.
            **settings: Those of every node (see `node`).

        Example:
            >>> Waits().wait_signal("paid", payload={"type": "object"}, output={"state.payment": "result.id"})
            'paid'
        """
        fields = {
            "signal": signal,
            "retained": retained,
            "payload": schema_of(payload, f"node {id!r}, payload"),
            "output": dict(output or {}),
            "timeout_s": timeout_s,
        }
        return self._add(models.SignalNode, id, fields, settings, start=start)

    def timer(
        self,
        id: str,  # noqa: A002 - the field's name
        duration_s: float | str | None = None,
        *,
        until: str | None = None,
        output: Mapping[str, str] | None = None,
        start: bool = False,
        **settings: Unpack[NodeSettings],
    ) -> str:
        """Add a node that waits for a time; gives its id. It goes off, late if need be, whatever dies meanwhile.

        Args:
            id: Unique in the workflow.
            duration_s: Seconds, a number or an expression.
            until: Instead of a duration, the expression that gives a time: RFC 3339 text, or seconds since 1970.
            output: Target -> expression; `result` is null.
            start: Whether a run begins here.
            **settings: Those of every node (see `node`).

        Example:
            >>> flow = Waits()
            >>> flow.timer("pause", 60), flow.timer("opening", until="input.opens_at")
            ('pause', 'opening')
        """
        fields = {"duration_s": duration_s, "until": until, "output": dict(output or {})}
        return self._add(models.TimerNode, id, fields, settings, start=start)

    def terminate(
        self,
        id: str,  # noqa: A002 - the field's name
        status: Literal["completed", "failed"] = "completed",
        *,
        error_type: str | None = None,
        message: str | None = None,
        output: Mapping[str, str] | None = None,
        start: bool = False,
        **settings: Unpack[NodeSettings],
    ) -> str:
        """Add a node that ends the run as soon as a token reaches it, and cancels whatever else goes on; gives its id.

        Args:
            id: Unique in the workflow.
            status: How the run ends.
            error_type: The type of the run's error, where it fails.
            message: The message of the run's error.
            output: Target -> expression, applied before the end.
            start: Whether a run begins here.
            **settings: Those of every node (see `node`).

        Example:
            >>> Waits().terminate("refused", "failed", error_type="Refused", message="the owner said no")
            'refused'
        """
        error = {"error_type": error_type, "message": message}
        fields = {"status": status, "output": dict(output or {})} | {
            name: said for name, said in error.items() if said is not None
        }
        return self._add(models.TerminateNode, id, fields, settings, start=start)


def Escalate(after_s: float, assignee: str) -> models.Escalation:  # noqa: N802 - the builder's word, as All and Append
    """Whom a gate asks next: `flow.gate(..., escalate=[Escalate(3600, "'boss'")])`.

    Args:
        after_s: Seconds since the gate opened.
        assignee: The expression that says who is asked then; quote a fixed name.

    Example:
        >>> Escalate(86_400, "state.team.lead").assignee
        'state.team.lead'
    """
    return make(models.Escalation, "escalation", {"after_s": after_s, "assignee": assignee})
