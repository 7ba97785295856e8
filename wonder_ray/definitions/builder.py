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

from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from wonder_ray.definitions import models
from wonder_ray.definitions.authoring.base import names, schema_of
from wonder_ray.definitions.authoring.children import Parent
from wonder_ray.definitions.authoring.tasks import StepDraft, UndoDraft, step, undo
from wonder_ray.definitions.authoring.waits import Escalate, Waits
from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.definitions.joins import All, Append  # noqa: F401 - for the example above
from wonder_ray.definitions.limits import TRANSITIONS_MAX
from wonder_ray.definitions.making import make
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from wonder_ray.definitions.authoring.base import Names, Schema
    from wonder_ray.definitions.checks.problems import Problem
    from wonder_ray.executor.registry import Action

__all__ = ["Escalate", "StepDraft", "TransitionSettings", "UndoDraft", "Workflow", "step", "undo"]


class TransitionSettings(TypedDict, total=False):
    """The rarer settings of a transition, as keyword arguments.

    Fields:
        race: A name; the transitions of one split that bear it lead to gates, signals and timers, of which the first to end
            withdraws the others.
        open: Whether members can be added to its group from outside, until that is closed.
        cancel: Nodes whose tokens are cancelled when it fires.
        cancel_groups: Groups that are cancelled when it fires: their joins do not fire.
        complete_groups: Groups whose joins fire, with what there is, when it fires.
        close_groups: Open groups that take no more members from then on.
    """

    race: str
    open: bool
    cancel: Names
    cancel_groups: Names
    complete_groups: Names
    close_groups: Names


_EFFECTS: Final = ("cancel", "cancel_groups", "complete_groups", "close_groups")


class Workflow(Parent, Waits):
    """A workflow under construction; `definition()` gives the checked, immutable result.

    Args:
        name: Letters, digits, `_`, `.`, `-`.
        input: What a run's input must be: a pydantic model, a type, a JSON Schema, or None for anything.
        output: Name -> expression, evaluated when a run completes.
        timeout_s: Seconds that a whole run may take.
        description: For people.
        state: What the state must be after an update from outside, as for `input`.
        max_depth: How deep child runs may be nested below a run of this workflow.

    Attributes:
        name: As given.
        input: The JSON Schema of a run's input.
        children: Node -> the workflow it runs, where `subworkflow` was given a workflow and not a name.
        modules: What the code bundle holds beside the modules of its actions.

    Raises:
        DefinitionError: From every method, for what is wrong at that place; `definition` for what is wrong in the whole.
    """

    def __init__(
        self,
        name: str,
        *,
        input: Schema = None,  # noqa: A002 - the word users know it by
        output: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        description: str = "",
        state: Schema = None,
        max_depth: int | None = None,
    ) -> None:
        super().__init__(name, input=schema_of(input, "workflow input"))
        self._head = {
            "name": name,
            "description": description,
            "input": self.input,
            "output": dict(output or {}),
            "timeout_s": timeout_s,
            "state": schema_of(state, "workflow state"),
        }
        self.modules: tuple[ModuleType, ...] = ()
        if max_depth is not None:
            self._head["max_depth"] = max_depth

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self._nodes)} nodes, {len(self._transitions)} transitions>"

    def transition(  # noqa: PLR0913 - a transition has these settings
        self,
        source: str | Names,
        target: str | Names,
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
        **settings: Unpack[TransitionSettings],
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
            **settings: The rarer ones: `race`, `open`, `cancel`, `cancel_groups`, `complete_groups`, `close_groups`
                (see `TransitionSettings`).

        Example:
            >>> flow = Workflow("w")
            >>> flow.transition(["draw", "paint"], "frame", join=All("art"))
            >>> flow.transition("ask", ["answered", "too_late"], race="decision")
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
        self._add_transitions(names(source), names(target), fields, dict(settings))

    def _add_transitions(
        self, sources: tuple[str, ...], targets: tuple[str, ...], fields: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        if (count := len(self._transitions) + len(sources) * len(targets)) > TRANSITIONS_MAX:
            msg = f"workflow {self.name!r}: {count:,} transitions are more than {TRANSITIONS_MAX:,}; name fewer nodes"
            raise DefinitionError(msg)
        effects = {name: names(given) for name, given in settings.items() if name in _EFFECTS}
        for one in sources:
            for other in targets:
                where = f"transition '{one}->{other}'"
                for name in settings:
                    if name not in models.Transition.model_fields:
                        msg = f"{where}: unknown setting {name!r}; {did_you_mean(name, [*fields, *_SETTINGS])}"
                        raise DefinitionError(msg)
                said = {"source": one, "target": other, **fields, **settings, **effects}
                self._transitions.append(make(models.Transition, where, said))

    def definition(self, *, versions: Mapping[str, str] | None = None) -> models.WorkflowDefinition:
        """The definition, checked.

        Args:
            versions: Node -> the version under which the workflow that it runs has been registered, for `children`; without
                it the node runs the latest version at its time.

        Raises:
            DefinitionError: Lists every error, each with its node or transition, field and mend.
        """
        from wonder_ray.definitions.validation import (
            check,
        )  # brings the expression library, which writing a workflow does not need

        return check(self._definition(versions or {}))

    def problems(self) -> list[Problem]:
        """Errors and warnings of the definition as it stands, errors first.

        >>> flow = Workflow("w")
        >>> _ = flow.compute("a", output={"state.x": "1"})
        >>> print(flow.problems()[0])
        node 'a', output.state.x: nothing reads state.x; remove it, or use it in an expression or in the workflow's output
        """
        from wonder_ray.definitions.validation import validate  # as in definition

        return validate(self._definition({}))

    @property
    def actions(self) -> tuple[Action[..., Any], ...]:
        """The actions used, undos included, each once, in the order of their first use: what the code bundle must hold."""
        return tuple(self._actions.values())

    def include(self, *modules: ModuleType) -> None:
        """Put modules into the code bundle: for actions that are given as 'module:qualname', whose code is not at hand.

        Example:
            >>> import colorsys
            >>> flow = Workflow("w")
            >>> flow.include(colorsys)
            >>> flow.modules == (colorsys,)
            True
        """
        self.modules = (*self.modules, *(module for module in modules if module not in self.modules))

    def _definition(self, versions: Mapping[str, str]) -> models.WorkflowDefinition:
        if not self._nodes:
            msg = f"workflow {self.name!r} has no nodes; add one with flow.node(...)"
            raise DefinitionError(msg)
        nodes = tuple(
            node.model_copy(update={"version": versions[node.id]}) if node.id in versions else node for node in self._nodes
        )
        parts = {"nodes": nodes, "transitions": tuple(self._transitions), "start": tuple(self._start)}
        return make(models.WorkflowDefinition, f"workflow {self.name!r}", self._head | parts)


_SETTINGS: Final = tuple(TransitionSettings.__annotations__)
