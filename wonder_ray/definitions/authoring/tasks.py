"""The builder's nodes that run code: actions, steps, and what takes their work back.

>>> refund = undo("shop:refund", input={"payment": "result.id"})
>>> refund.model.action
'shop:refund'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Unpack

from wonder_ray.definitions import models
from wonder_ray.definitions.authoring.base import (
    Draft,
    NodeSettings,
    ResourceSettings,
    as_action,
    divided,
    reference,
    resources,
    retries,
    texts,
)
from wonder_ray.definitions.making import make
from wonder_ray.definitions.parameters import check_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.definitions.authoring.base import Given, Retries, Runnable
    from wonder_ray.executor.registry import Action


class StepDraft(NamedTuple):
    """A step together with the action it runs; made by `step`."""

    model: models.Step
    action: Action[..., Any] | None


class UndoDraft(NamedTuple):
    """An undo together with the action it runs; made by `undo`."""

    model: models.Undo
    action: Action[..., Any] | None


Undoing: TypeAlias = "UndoDraft | models.Undo | Runnable"
"""What takes a node's work back: what `undo` gives, or an action that needs no input."""


class UndoSettings(NodeSettings, total=False):
    """The settings of every node, and of those whose work can be taken back.

    Fields:
        undo: What takes its work back when the run fails, or is cancelled with compensation.
    """

    undo: Undoing


class TaskSettings(UndoSettings, ResourceSettings, total=False):
    """The settings of every node that runs as a Ray task."""


class Tasks(Draft):
    """Adds nodes that run user code in Ray tasks."""

    def node(
        self,
        id: str,  # noqa: A002 - the field's name
        action: Runnable,
        *,
        input: Given | None = None,  # noqa: A002 - the field's name
        output: Mapping[str, str] | None = None,
        retry: Retries | None = None,
        timeout_s: float | None = None,
        batch: bool | None = None,
        start: bool = False,
        **settings: Unpack[TaskSettings],
    ) -> str:
        """Add a node that runs one action as a Ray task; gives its id. What is said here wins over the action's own options.

        Args:
            id: Unique in the workflow.
            action: An action, a plain function, or 'module:qualname'.
            input: Parameter -> expression, or a `Secret`. Checked against the function's parameters where there is a function.
            output: Target (`state.urls`) -> expression over `result` and the state.
            retry: One rule or several; the first that names the error decides.
            timeout_s: Seconds that one attempt may take.
            batch: Whether ready tokens of this node may share one Ray task.
            start: Whether a run begins here; where no node says so, it begins at those without incoming transitions.
            **settings: `num_cpus`, `num_gpus`, `memory` (bytes), `resources`, `label_selector`, `runtime_env`, as Ray has
                them; `undo` (what takes its work back: an action, or `undo(...)`); and those of every node: `guard` (a
                condition to start), `concurrency_key` and `concurrency_limit` (tokens with the same key take turns),
                `mutex` (names held from here on, for as long as the nodes that follow name them, too).

        Example:
            >>> flow = Tasks()
            >>> flow.node("train", "trainer:train", num_gpus=1, retry=models.Retry(max_attempts=3), timeout_s=3600)
            'train'
            >>> refund = undo("shop:refund", input={"payment": "result.id"})
            >>> flow.node("pay", "shop:pay", undo=refund, concurrency_key="input.user")
            'pay'
        """
        where = f"node {id!r}"
        known = self._known(action, where)
        if known is not None:
            check_parameters(where, known, input or {})
        options = known.options if known is not None else None
        asked, common = divided(settings)
        fields = {
            "action": reference(action, known),
            "input": texts(input),
            "output": dict(output or {}),
            "retry": retries(retry if retry is not None or options is None else options.retry),
            "timeout_s": timeout_s if timeout_s is not None or options is None else options.timeout_s,
            "batch": batch if batch is not None else options is None or options.batch,
            "resources": resources(where, options, asked),
        }
        return self._add(models.ActionNode, id, fields, self._with_undo(where, common), start=start)

    def steps(
        self,
        id: str,  # noqa: A002 - as in node
        steps: Sequence[models.Step | StepDraft],
        *,
        input: Given | None = None,  # noqa: A002 - as in node
        output: Mapping[str, str] | None = None,
        retry: Retries | None = None,
        timeout_s: float | None = None,
        batch: bool = True,
        start: bool = False,
        **settings: Unpack[TaskSettings],
    ) -> str:
        """Add a node that runs several actions, one after the other, in one Ray task; gives its id.

        Example:
            >>> load = step("load", "prep:load", output={"output.rows": "result"})
            >>> Tasks().steps("prep", [load], output={"state.rows": "result.rows"})
            'prep'
        """
        where = f"node {id!r}"
        for each in steps:
            if isinstance(each, StepDraft) and each.action is not None:
                self._known(each.action, f"{where}, step {each.model.name!r}")
        asked, common = divided(settings)
        fields = {
            "steps": tuple(each.model if isinstance(each, StepDraft) else each for each in steps),
            "input": texts(input),
            "output": dict(output or {}),
            "retry": retries(retry),
            "timeout_s": timeout_s,
            "batch": batch,
            "resources": resources(where, None, asked),
        }
        return self._add(models.StepsNode, id, fields, self._with_undo(where, common), start=start)

    def _with_undo(self, where: str, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings with the model of the undo, whose action is remembered."""
        given = settings.get("undo")
        if given is None or isinstance(given, models.Undo):
            return settings
        draft = given if isinstance(given, UndoDraft) else _undo(f"{where}, undo", given)
        if draft.action is not None:
            self._known(draft.action, f"{where}, undo")
        return settings | {"undo": draft.model}


def step(
    name: str,
    action: Runnable,
    *,
    input: Given | None = None,  # noqa: A002 - the field's name
    output: Mapping[str, str] | None = None,
    when: str | None = None,
    on_failure: str = "abort",
    max_attempts: int = 1,
) -> StepDraft:
    """One step of `Workflow.steps`; its expressions see the `input`, `state` and `output` of its own node only.

    Raises:
        DefinitionError: A parameter of the function gets no value, or there is none of that name.

    Example:
        >>> step("clean", "prep:clean", input={"rows": "state.rows"}, output={"output.rows": "result"}).model.action
        'prep:clean'
    """
    where = f"step {name!r}"
    known = None if isinstance(action, str) else as_action(action, where)
    if known is not None:
        check_parameters(where, known, input or {})
    fields = {
        "name": name,
        "action": reference(action, known),
        "input": texts(input),
        "output": dict(output or {}),
        "when": when,
        "on_failure": on_failure,
        "max_attempts": max_attempts,
    }
    return StepDraft(make(models.Step, where, fields), known)


def undo(
    action: Runnable,
    *,
    input: Given | None = None,  # noqa: A002 - the field's name
    retry: Retries | None = None,
    timeout_s: float | None = None,
    **asked: Unpack[ResourceSettings],
) -> UndoDraft:
    """What takes a node's work back when the run fails, or is cancelled with compensation: `flow.node(..., undo=undo(...))`.

    Undos run one after the other, the last completed node's first, before the run ends.

    Args:
        action: An action, a plain function, or 'module:qualname'; its own options hold where nothing is said here.
        input: Parameter -> expression, evaluated when the node completes; `result` is what the node returned.
        retry: One rule or several.
        timeout_s: Seconds that one attempt may take.
        **asked: `num_cpus`, `num_gpus`, `memory` (bytes), `resources`, `label_selector`, `runtime_env`, as Ray has them.

    Raises:
        DefinitionError: A parameter of the function gets no value, or there is none of that name.

    Example:
        >>> undo("shop:refund", input={"payment": "result.id"}, retry=models.Retry(max_attempts=5)).model.input
        {'payment': 'result.id'}
    """
    return _undo("undo", action, input, retry=retry, timeout_s=timeout_s, asked=dict(asked))


def _undo(
    where: str,
    action: Runnable,
    given: Given | None = None,
    *,
    retry: Retries | None = None,
    timeout_s: float | None = None,
    asked: Mapping[str, Any] | None = None,
) -> UndoDraft:
    known = None if isinstance(action, str) else as_action(action, where)
    if known is not None:
        check_parameters(where, known, given or {})
    options = known.options if known is not None else None
    fields = {
        "action": reference(action, known),
        "input": texts(given),
        "retry": retries(retry if retry is not None or options is None else options.retry),
        "timeout_s": timeout_s if timeout_s is not None or options is None else options.timeout_s,
        "resources": resources(where, options, asked or {}),
    }
    return UndoDraft(make(models.Undo, where, fields), known)
