"""The builder's nodes that run other workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from wonder_ray.definitions import models
from wonder_ray.definitions.authoring.base import retries
from wonder_ray.definitions.authoring.tasks import Tasks, UndoSettings
from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.definitions.authoring.base import Retries


class Parent(Tasks):
    """Adds nodes that run other workflows as child runs.

    Attributes:
        name: The workflow's name.
        children: Node -> the workflow that it runs, where it was given as an object and not by its name.
    """

    def __init__(self, name: str, *, input: Mapping[str, Any] | None) -> None:  # noqa: A002 - the field's name
        super().__init__()
        self.name = name
        self.input = input
        self.children: dict[str, Parent | models.WorkflowDefinition] = {}

    def subworkflow(
        self,
        id: str,  # noqa: A002 - the field's name
        workflow: Parent | models.WorkflowDefinition | str,
        *,
        version: str | None = None,
        input: Mapping[str, str] | None = None,  # noqa: A002 - the field's name
        output: Mapping[str, str] | None = None,
        retry: Retries | None = None,
        timeout_s: float | None = None,
        start: bool = False,
        **settings: Unpack[UndoSettings],
    ) -> str:
        """Add a node that runs a workflow as a child run with a coordinator of its own; gives its id.

        Args:
            id: Unique in this workflow.
            workflow: The workflow itself, which is registered together with this one, or the name of one that is registered
                when the node starts. This workflow itself, or its name, is recursion: the child is of the run's own version.
            version: With a name, the version (sha256) that is meant, instead of the latest at that time.
            input: The child's input, an object: name -> expression.
            output: Target -> expression over `result`, which is the child's output.
            retry: When a child that has failed is followed by another one: one rule or several.
            timeout_s: Seconds that one child may take.
            start: Whether a run begins here.
            **settings: `undo` (what takes the child's work back), and those of every node (see `node`).

        Raises:
            DefinitionError: The child is called like this workflow, or runs this workflow in turn; its input lacks something.

        Example:
            >>> from wonder_ray.definitions.builder import Workflow
            >>> page = Workflow("page", input={"required": ["url"]}, output={"text": "state.text"})
            >>> _ = page.node("fetch", "web:fetch", input={"url": "input.url"}, output={"state.text": "result"})
            >>> site = Workflow("site")
            >>> site.subworkflow("front", page, input={"url": "input.site"}, output={"state.front": "result.text"}, timeout_s=60)
            'front'
            >>> site.subworkflow("audit", "audit-site", input={"site": "input.site"})
            'audit'
        """
        where = f"node {id!r}"
        if not isinstance(workflow, str):
            self._check_child(where, workflow, version, input or {})
        fields = {
            "workflow": workflow if isinstance(workflow, str) else workflow.name,
            "input": dict(input or {}),
            "output": dict(output or {}),
            "retry": retries(retry),
            "timeout_s": timeout_s,
        }
        if isinstance(workflow, models.WorkflowDefinition):
            fields["version"] = workflow.version
        elif version is not None:
            fields["version"] = version
        added = self._add(models.SubworkflowNode, id, fields, self._with_undo(where, dict(settings)), start=start)
        if not isinstance(workflow, str) and workflow is not self:
            self.children[id] = workflow
        return added

    def _check_child(
        self, where: str, child: Parent | models.WorkflowDefinition, version: str | None, given: Mapping[str, str]
    ) -> None:
        if version is not None:
            msg = f"{where}, version: it is told by the workflow {child.name!r} that is given; leave it out, or give a name"
            raise DefinitionError(msg)
        _check_input(where, child, given)
        if child is self:
            return
        if child.name == self.name:
            msg = f"{where}: another workflow that is called {self.name!r}, too; rename one (for recursion, give this one itself)"
            raise DefinitionError(msg)
        if isinstance(child, Parent) and any(other is self for other in child.descendants()):
            instead = f"write the name instead: subworkflow({where.removeprefix('node ')}, {child.name!r})"
            msg = f"{where}: {child.name!r} runs {self.name!r} in turn, and neither can name the other's version; {instead}"
            raise DefinitionError(msg)

    def descendants(self) -> list[Parent | models.WorkflowDefinition]:
        """The workflows that are registered with this one: its children that were given as objects, and theirs; each once."""
        found: list[Parent | models.WorkflowDefinition] = []
        waiting = list(self.children.values())
        while waiting:
            child = waiting.pop(0)
            if all(child is not other for other in found):
                found.append(child)
                waiting += child.children.values() if isinstance(child, Parent) else ()
        return found


def _check_input(where: str, child: Parent | models.WorkflowDefinition, given: Mapping[str, str]) -> None:
    """Whether what a child is given fits its schema, as far as the names tell."""
    schema = child.input
    required, properties = (schema or {}).get("required", ()), (schema or {}).get("properties", {})
    for name in required if isinstance(required, list | tuple) else ():
        if name not in given:
            msg = f'{where}: workflow {child.name!r} requires the input {name!r}; add input={{"{name}": ...}}'
            raise DefinitionError(msg)
    if schema is not None and schema.get("additionalProperties") is False and isinstance(properties, dict):
        for name in given:
            if name not in properties:
                msg = f"{where}: workflow {child.name!r} has no input {name!r}; {did_you_mean(name, properties)}"
                raise DefinitionError(msg)
