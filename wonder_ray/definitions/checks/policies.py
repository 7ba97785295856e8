"""Retries, timeouts, resources and steps: numbers that contradict each other."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from wonder_ray.definitions.limits import SECONDS_MAX
from wonder_ray.definitions.models import GateNode, Retry, StepsNode, SubworkflowNode, TaskNode

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Place
    from wonder_ray.definitions.checks.survey import Survey
    from wonder_ray.definitions.models import Node, Resources, Step, Undo

ANY = "*"
_RAY_OWN = MappingProxyType({"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"})


def check_policies(survey: Survey) -> None:
    """Every rule about what a node asks for."""
    _seconds(survey, ("timeout_s",), survey.definition.timeout_s)
    for i, node in enumerate(survey.definition.nodes):
        _timeout(survey, ("nodes", i, "timeout_s"), node)
        if isinstance(node, TaskNode | SubworkflowNode):
            _retries(survey, ("nodes", i, "retry"), node.retry)
            if node.undo is not None:
                _undo(survey, ("nodes", i, "undo"), node.undo)
        if isinstance(node, TaskNode):
            _resources(survey, ("nodes", i, "resources"), node.resources)
        if isinstance(node, StepsNode):
            _steps(survey, ("nodes", i, "steps"), node.steps)
        for j, step in enumerate(node.escalate if isinstance(node, GateNode) else ()):
            _seconds(survey, ("nodes", i, "escalate", j, "after_s"), step.after_s)
    for i, transition in enumerate(survey.definition.transitions):
        if transition.join is not None:
            _seconds(survey, ("transitions", i, "join", "timeout_s"), transition.join.timeout_s)


def _undo(survey: Survey, place: Place, undo: Undo) -> None:
    _retries(survey, (*place, "retry"), undo.retry)
    _resources(survey, (*place, "resources"), undo.resources)
    _seconds(survey, (*place, "timeout_s"), undo.timeout_s)


def _seconds(survey: Survey, place: Place, seconds: float | None) -> None:
    if seconds is not None and not seconds <= SECONDS_MAX:
        survey.add(place, f"{seconds:g} s is more than ten thousand years", "give a time that somebody will see")


def _retries(survey: Survey, place: Place, rules: tuple[Retry, ...]) -> None:
    caught: int | None = None
    for j, rule in enumerate(rules):
        _retry(survey, (*place, j), rule)
        if caught is not None:
            mend = "put the rule that retries any error last"
            survey.warn((*place, j), f"never used: rule {caught} (counted from 0) decides about every error before", mend)
        elif ANY in rule.retry_on and not rule.non_retryable:
            caught = j


def _retry(survey: Survey, place: Place, rule: Retry) -> None:
    if rule.max_backoff_s < rule.backoff_s != Retry.model_fields["backoff_s"].default:
        message = f"backoff_s {rule.backoff_s:g} is more than max_backoff_s {rule.max_backoff_s:g}"
        survey.add((*place, "backoff_s"), message, "raise max_backoff_s, or lower backoff_s")
    if not rule.retry_on:
        survey.add((*place, "retry_on"), "retry_on is empty, so the rule matches no error", 'name error types, or "*" for any')
    both = sorted(set(rule.retry_on) & set(rule.non_retryable))
    if both:
        message = f"{', '.join(map(repr, both))} stands in retry_on and in non_retryable"
        survey.add((*place, "non_retryable"), message, "keep it in one of them")
    elif ANY in rule.non_retryable:
        survey.add((*place, "non_retryable"), "'*' in non_retryable: nothing is ever retried", "use max_attempts: 1")


def _resources(survey: Survey, place: Place, resources: Resources) -> None:
    amounts: dict[Place, float] = {
        (*place, "num_cpus"): resources.num_cpus,
        (*place, "num_gpus"): resources.num_gpus,
        **{(*place, "resources", name): amount for name, amount in resources.resources.items()},
    }
    for at, amount in amounts.items():
        if not 0 <= amount < float("inf"):
            survey.add(at, f"{amount:g} cannot be asked for", "give a number of 0 or more")
        elif amount > 1 and amount != int(amount):
            survey.add(at, f"{amount:g}: above 1 Ray takes whole numbers only", f"ask for {int(amount)} or {int(amount) + 1}")
    for name in resources.resources:
        if name in _RAY_OWN:
            survey.add((*place, "resources", name), f"{name!r} is one of Ray's own", f"use {_RAY_OWN[name]}")


def _timeout(survey: Survey, place: Place, node: Node) -> None:
    timeout_s: float | None = getattr(node, "timeout_s", None)
    run = survey.definition.timeout_s
    _seconds(survey, place, timeout_s)
    if timeout_s is not None and run is not None and timeout_s > run:
        mend = "lower it, or raise the workflow's timeout_s"
        survey.warn(place, f"{timeout_s:g} s is longer than the whole run may take ({run:g} s)", mend)
    if timeout_s is None and place[1] == survey.positions[node.id]:
        has_one = "timeout_s" in type(node).model_fields
        for i in survey.leaving[node.id]:
            trigger = survey.triggers[i]
            if trigger is not None and trigger.outcome == "timed_out":
                what = f"node {node.id!r} has no timeout_s" if has_one else f"{node.kind} node {node.id!r} can have no timeout_s"
                mend = "give the node a timeout_s" if has_one else "remove the transition, or let it race with a timer"
                survey.warn(("transitions", i, "on"), f"{what}, so it never times out", mend)


def _steps(survey: Survey, place: Place, steps: tuple[Step, ...]) -> None:
    seen: set[str] = set()
    for j, step in enumerate(steps):
        if not step.name.strip():
            survey.add((*place, j, "name"), "a step without a name", "name it after what it does")
        elif step.name in seen:
            survey.add((*place, j, "name"), f"two steps are called {step.name!r}", "rename one")
        seen.add(step.name)
        if step.on_failure == "retry" and step.max_attempts == 1:
            survey.add((*place, j, "max_attempts"), "on_failure is retry, and max_attempts is 1", "set max_attempts to 2 or more")
        elif step.on_failure != "retry" and step.max_attempts > 1:
            message = f"max_attempts is {step.max_attempts}, and on_failure is {step.on_failure}"
            survey.add((*place, j, "max_attempts"), message, "set on_failure: retry, or remove max_attempts")
