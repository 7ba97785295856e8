"""Gates, signals, timers and ends: what they wait for, how long, and whether anything can come of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wonder_ray.definitions.limits import SECONDS_MAX
from wonder_ray.definitions.models import GateNode, SignalNode, TerminateNode, TimerNode

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey

_ERROR_TYPE = re.compile(r"[\w.:\-]{1,200}")


def check_waits(survey: Survey) -> None:
    """Every rule about nodes that wait, and about those that end the run."""
    signals: dict[str, tuple[int, SignalNode]] = {}
    for i, node in enumerate(survey.definition.nodes):
        at: Place = ("nodes", i)
        if isinstance(node, GateNode):
            _gate(survey, at, node)
        elif isinstance(node, SignalNode):
            if node.signal is not None:
                survey.name(node.signal, "signal", (*at, "signal"))
            _, other = signals.setdefault(node.signal or node.id, (i, node))
            _same_signal(survey, at, node, other)
        elif isinstance(node, TimerNode):
            _timer(survey, at, node)
        elif isinstance(node, TerminateNode):
            _terminate(survey, at, node)


def _gate(survey: Survey, at: Place, node: GateNode) -> None:
    seen: set[float] = set()
    for j, step in enumerate(node.escalate):
        place = (*at, "escalate", j, "after_s")
        if node.timeout_s is not None and step.after_s >= node.timeout_s:
            message = (
                f"after {step.after_s:g} s the gate has timed out (timeout_s {node.timeout_s:g}), so nobody is asked any more"
            )
            survey.warn(place, message, "lower it, or raise timeout_s")
        if step.after_s in seen:
            survey.warn(place, f"two escalations after {step.after_s:g} s: the later of them wins", "keep one")
        seen.add(step.after_s)


def _same_signal(survey: Survey, at: Place, node: SignalNode, other: SignalNode) -> None:
    for field in ("retained", "payload"):
        if getattr(node, field) != getattr(other, field):
            message = f"node {other.id!r} waits for the same signal, {node.signal or node.id!r}, with another {field}"
            survey.warn((*at, field), message, "write the same on both, or wait for two signals")


def _timer(survey: Survey, at: Place, node: TimerNode) -> None:
    if node.duration_s is None and node.until is None:
        mend = "say how long (duration_s: 60), or until when (until: input.opens_at)"
        survey.add((*at, "duration_s"), "a timer without a time", mend)
    elif node.duration_s is not None and node.until is not None:
        survey.add((*at, "until"), "duration_s and until exclude each other", "keep one of them")
    if not isinstance(node.duration_s, float | int):
        return
    if not 0 <= node.duration_s <= SECONDS_MAX:
        message = f"{node.duration_s:g} is no number of seconds between 0 and ten thousand years"
        survey.add((*at, "duration_s"), message, "correct it")


def _terminate(survey: Survey, at: Place, node: TerminateNode) -> None:
    if at[1] != survey.positions[node.id]:
        return
    for i in survey.leaving[node.id]:
        message = f"node {node.id!r} ends the run, so nothing leaves it"
        survey.add(("transitions", i, "from"), message, "remove the transition, or do before the end what it leads to")
    if not _ERROR_TYPE.fullmatch(node.error_type):
        mend = "use letters, digits, '_', '.', ':' and '-', as in a class name"
        survey.add((*at, "error_type"), f"{node.error_type[:80]!r} is no type of an error", mend)
    elif node.status == "completed" and (node.message or node.error_type != TerminateNode.model_fields["error_type"].default):
        field = "message" if node.message else "error_type"
        survey.warn((*at, field), "a run that completes has no error", "set status: failed, or remove it")
    for field, given in (("concurrency_key", node.concurrency_key), ("mutex", node.mutex)):
        if given:
            survey.warn((*at, field), "the run ends here, and nothing else goes on beside that", f"remove {field}")
