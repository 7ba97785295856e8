"""`Workflow`: the Python way to write a definition.

>>> def list_urls(site: str) -> list[str]:
...     return [site + "/a", site + "/b"]
>>> def fetch(url: str) -> dict[str, str]:
...     return {"url": url}
>>> flow = Workflow("crawl", output={"pages": "state.pages"})
>>> flow.node("list", list_urls, input={"site": "input.site"}, output={"state.urls": "result"})
'list'
>>> flow.node("fetch", fetch, input={"url": "item"})
'fetch'
>>> flow.compute("done")
'done'
>>> flow.transition("list", "fetch", foreach="state.urls", group="pages", max_concurrency=100)
>>> flow.transition("fetch", "done", join=All("pages", merge=Append("state.pages")))
>>> [node.id for node in flow.definition().nodes]
['list', 'fetch', 'done']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict, TypeVar, Unpack, cast

from pydantic import BaseModel, ValidationError

from wonder_ray.definitions import models
from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.definitions.joins import All, Append  # noqa: F401 - for the example above
from wonder_ray.definitions.parameters import check_parameters
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wonder_ray.definitions.checks.problems import Problem
    from wonder_ray.executor.registry import Action, ActionOptions

Runnable: TypeAlias = "Action[..., Any] | Callable[..., Any] | str"
"""An action, a plain function, or 'module:qualname'."""
Retries: TypeAlias = "models.Retry | Sequence[models.Retry]"
_M = TypeVar("_M", bound=BaseModel)


class ResourceSettings(TypedDict, total=False):
    """What a node may ask of Ray, as keyword arguments; the names and units are Ray's own (memory in bytes)."""

    num_cpus: float
    num_gpus: float
    memory: int
    resources: Mapping[str, float]
    label_selector: Mapping[str, str]
    runtime_env: Mapping[str, Any]


class StepDraft(NamedTuple):
    """A step together with the action it runs; made by `step`."""

    model: models.Step
    action: Action[..., Any] | None


class Workflow:
    """A workflow under construction; `definition()` gives the checked, immutable result.

    Args:
        name: Letters, digits, `_`, `.`, `-`.
        input: What a run's input must be: a pydantic model class, a JSON Schema, or None for anything.
        output: Name -> expression, evaluated when a run completes.
        timeout_s: Seconds that a whole run may take.
        description: For people.

    Raises:
        DefinitionError: From every method, for what is wrong at that place; `definition` for what is wrong in the whole.
    """

    def __init__(
        self,
        name: str,
        *,
        input: type[BaseModel] | Mapping[str, Any] | None = None,  # noqa: A002 - the word users know it by
        output: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        description: str = "",
    ) -> None:
        self.name = name
        self._head = {
            "name": name,
            "description": description,
            "input": _schema(input),
            "output": dict(output or {}),
            "timeout_s": timeout_s,
        }
        self._nodes: list[models.Node] = []
        self._transitions: list[models.Transition] = []
        self._start: list[str] = []
        self._actions: dict[str, Action[..., Any]] = {}

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self._nodes)} nodes, {len(self._transitions)} transitions>"

    def node(
        self,
        id: str,  # noqa: A002 - the field's name
        action: Runnable,
        *,
        input: Mapping[str, str] | None = None,  # noqa: A002 - the field's name
        output: Mapping[str, str] | None = None,
        retry: Retries | None = None,
        timeout_s: float | None = None,
        batch: bool | None = None,
        start: bool = False,
        **resources: Unpack[ResourceSettings],
    ) -> str:
        """Add a node that runs one action as a Ray task; gives its id. What is said here wins over the action's own options.

        Args:
            id: Unique in the workflow.
            action: An action, a plain function, or 'module:qualname'.
            input: Parameter -> expression. Checked against the function's parameters where there is a function.
            output: Target (`state.urls`) -> expression over `result` and the state.
            retry: One rule or several; the first that names the error decides.
            timeout_s: Seconds that one attempt may take.
            batch: Whether ready tokens of this node may share one Ray task.
            start: Whether a run begins here; where no node says so, it begins at those without incoming transitions.
            **resources: `num_cpus`, `num_gpus`, `memory` (bytes), `resources`, `label_selector`, `runtime_env`, as Ray has them.

        Example:
            >>> flow = Workflow("w")
            >>> flow.node("train", "trainer:train", num_gpus=1, retry=models.Retry(max_attempts=3), timeout_s=3600)
            'train'
        """
        where = f"node {id!r}"
        known = self._known(action, where)
        if known is not None:
            check_parameters(where, known, input or {})
        options = known.options if known is not None else None
        settings = {
            "retry": _retries(retry if retry is not None or options is None else options.retry),
            "timeout_s": timeout_s if timeout_s is not None or options is None else options.timeout_s,
            "batch": batch if batch is not None else options is None or options.batch,
            "resources": _resources(where, options, resources),
        }
        fields = {"id": id, "action": _reference(action, known), "input": dict(input or {}), "output": dict(output or {})}
        return self._add(_make(models.ActionNode, where, fields | settings), start=start)

    def compute(self, id: str, *, output: Mapping[str, str] | None = None, start: bool = False) -> str:  # noqa: A002 - as in node
        """Add a node that only evaluates its output expressions, in the coordinator; gives its id.

        Example:
            >>> Workflow("w").compute("count", output={"state.n": "state.n + 1"})
            'count'
        """
        return self._add(_make(models.ComputeNode, f"node {id!r}", {"id": id, "output": dict(output or {})}), start=start)

    def steps(
        self,
        id: str,  # noqa: A002 - as in node
        steps: Sequence[models.Step | StepDraft],
        *,
        input: Mapping[str, str] | None = None,  # noqa: A002 - as in node
        output: Mapping[str, str] | None = None,
        retry: Retries | None = None,
        timeout_s: float | None = None,
        batch: bool = True,
        start: bool = False,
        **resources: Unpack[ResourceSettings],
    ) -> str:
        """Add a node that runs several actions, one after the other, in one Ray task; gives its id.

        Example:
            >>> flow = Workflow("w")
            >>> load = step("load", "prep:load", output={"output.rows": "result"})
            >>> flow.steps("prep", [load], output={"state.rows": "result.rows"})
            'prep'
        """
        where = f"node {id!r}"
        for each in steps:
            if isinstance(each, StepDraft) and each.action is not None:
                self._known(each.action, f"{where}, step {each.model.name!r}")
        fields = {
            "id": id,
            "steps": tuple(each.model if isinstance(each, StepDraft) else each for each in steps),
            "input": dict(input or {}),
            "output": dict(output or {}),
            "retry": _retries(retry),
            "timeout_s": timeout_s,
            "batch": batch,
            "resources": _resources(where, None, resources),
        }
        return self._add(_make(models.StepsNode, where, fields), start=start)

    def transition(  # noqa: PLR0913 - a transition has these settings
        self,
        source: str | Sequence[str],
        target: str | Sequence[str],
        *,
        when: str | None = None,
        on: str = "completed",
        priority: int = 0,
        foreach: str | None = None,
        item: str = "item",
        spawn_count: int | str | None = None,
        group: str | None = None,
        max_concurrency: int | None = None,
        tolerated_failures: float | None = None,
        max_iterations: int | None = None,
        join: models.Join | None = None,
    ) -> None:
        """Add a transition; with lists, one from each source to each target, all with the same settings.

        Args:
            source: The node, or nodes, it leaves.
            target: The node, or nodes, it leads to.
            when: The condition under which it fires.
            on: The outcome after which it may fire: `completed`, `failed`, `failed[TimeoutError]`, `timed_out`, `cancelled`,
                `group_failed(group)`, `group_failed(group)[TimeoutError]`.
            priority: In the lowest number that has a match, every match fires.
            foreach: The list that gives a token per element.
            item: The name that expressions of the branch have for the element.
            spawn_count: How many tokens, a number or an expression.
            group: The sibling group that this split opens (or adds to).
            max_concurrency: How many branches may run at a time.
            tolerated_failures: How many members may fail, as a count or as a fraction of the group (0 < f < 1).
            max_iterations: How often it may fire per enclosing branch.
            join: Where branches meet: `All`, `Any` or `MOfN`.

        Example:
            >>> flow = Workflow("w")
            >>> flow.transition(["draw", "paint"], "frame", join=All("art"))
        """
        fields = {
            "when": when,
            "on": on,
            "priority": priority,
            "foreach": foreach,
            "item": item,
            "spawn_count": spawn_count,
            "group": group,
            "max_concurrency": max_concurrency,
            "tolerated_failures": tolerated_failures,
            "max_iterations": max_iterations,
            "join": join,
        }
        for one in _names(source):
            for other in _names(target):
                where = f"transition '{one}->{other}'"
                self._transitions.append(_make(models.Transition, where, {"source": one, "target": other} | fields))

    def definition(self) -> models.WorkflowDefinition:
        """The definition, checked.

        Raises:
            DefinitionError: Lists every error, each with its node or transition, field and mend.
        """
        from wonder_ray.definitions.validation import (
            check,
        )  # brings the expression library, which writing a workflow does not need

        return check(self._definition())

    def problems(self) -> list[Problem]:
        """Errors and warnings of the definition as it stands, errors first.

        >>> flow = Workflow("w")
        >>> _ = flow.compute("a", output={"state.x": "1"})
        >>> print(flow.problems()[0])
        node 'a', output.state.x: nothing reads state.x; remove it, or use it in an expression or in the workflow's output
        """
        from wonder_ray.definitions.validation import validate  # as in definition

        return validate(self._definition())

    @property
    def actions(self) -> tuple[Action[..., Any], ...]:
        """The actions used, each once, in the order of their first use: what the code bundle must hold."""
        return tuple(self._actions.values())

    def _definition(self) -> models.WorkflowDefinition:
        if not self._nodes:
            msg = f"workflow {self.name!r} has no nodes; add one with flow.node(...)"
            raise DefinitionError(msg)
        parts = {"nodes": tuple(self._nodes), "transitions": tuple(self._transitions), "start": tuple(self._start)}
        return _make(models.WorkflowDefinition, f"workflow {self.name!r}", self._head | parts)

    def _add(self, node: models.Node, *, start: bool) -> str:
        self._nodes.append(node)
        if start:
            self._start.append(node.id)
        return node.id

    def _known(self, action: Runnable, where: str) -> Action[..., Any] | None:
        """The action behind it, remembered; None for a name, whose function is not at hand."""
        if isinstance(action, str):
            return None
        known = _as_action(action, where)
        other = self._actions.setdefault(str(known.ref), known)
        if other.fn is not known.fn:
            msg = f"{where}: two functions travel by value under the name {known.name!r}; name one of them with @action(name=...)"
            raise DefinitionError(msg)
        return known


def step(
    name: str,
    action: Runnable,
    *,
    input: Mapping[str, str] | None = None,  # noqa: A002 - the field's name
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
    known = None if isinstance(action, str) else _as_action(action, where)
    if known is not None:
        check_parameters(where, known, input or {})
    fields = {
        "name": name,
        "action": _reference(action, known),
        "input": dict(input or {}),
        "output": dict(output or {}),
        "when": when,
        "on_failure": on_failure,
        "max_attempts": max_attempts,
    }
    return StepDraft(_make(models.Step, where, fields), known)


def _as_action(action: Any, where: str) -> Action[..., Any]:
    from wonder_ray.executor.registry import as_action  # writing a definition in names only does not need it

    try:
        return as_action(action)
    except DefinitionError as error:
        msg = f"{where}: {error}"
        raise DefinitionError(msg) from None


def _reference(action: Runnable, known: Action[..., Any] | None) -> str:
    return str(known.ref) if known is not None else cast("str", action)


def _schema(given: type[BaseModel] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if isinstance(given, type):
        if issubclass(given, BaseModel):
            return given.model_json_schema()
        msg = f"workflow input: {given.__name__} is no pydantic model; give a model class, a JSON Schema, or nothing"
        raise DefinitionError(msg)
    return dict(given)


def _names(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given


def _retries(given: Retries | None) -> tuple[models.Retry, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, models.Retry) else tuple(given)


def _resources(where: str, options: ActionOptions | None, own: ResourceSettings) -> models.Resources:
    names = ResourceSettings.__annotations__
    for name in own:
        if name not in names:
            hint = did_you_mean(name, [*names, "input", "output", "retry", "timeout_s", "batch", "start"])
            msg = f"{where}: unknown setting {name!r}; {hint}"
            raise DefinitionError(msg)
    said = {name: getattr(options, name, None) for name in names} | own
    return _make(models.Resources, where, {name: value for name, value in said.items() if value is not None})


def _make(kind: type[_M], where: str, fields: dict[str, Any]) -> _M:
    """The model, or a `DefinitionError` that names the field."""
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        msg = f"{where}, {field}: {first['msg']} (it is {repr(first.get('input'))[:80]})"
        raise DefinitionError(msg) from None
