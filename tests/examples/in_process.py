"""Examples run on the core with their real actions, undos and child workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.core import CoreRun
from wonder_ray.bundles.loader import BundleLoader
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import ActionNode, WorkflowDefinition
from wonder_ray.definitions.node_specs import UNDO_PREFIX
from wonder_ray.executor.context import TaskContext, task_context
from wonder_ray.executor.protocol import ActionRef
from wonder_ray.executor.results import to_json
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.state import Child, Token


class InProcess(CoreRun):
    """A run on the core with its real actions, each in the context that an executor gives it."""

    def outcome(self, token: Token) -> facts.TaskFact:
        context = TaskContext("run_1", token.node_id, token.id, token.attempt, token.epoch, f"run_1/{token.id}")
        with task_context(context):
            return super().outcome(token)


def in_process(flow: Workflow | WorkflowDefinition, **settings: Any) -> CoreRun:
    """A run of a workflow; the workflows that it was given as children run in it, from start to end."""
    definition = flow.definition() if isinstance(flow, Workflow) else flow
    actions: dict[str, Callable[..., Any]] = {}
    for node in definition.nodes:
        if isinstance(node, ActionNode):
            actions[node.id] = resolved(node.action)
            if node.undo is not None:
                actions[f"{UNDO_PREFIX}{node.id}"] = resolved(node.undo.action)
    run = InProcess(definition, actions, **settings)
    children = {child.name: child for child in flow.children.values()} if isinstance(flow, Workflow) else {}

    def child_ended(child: Child) -> facts.ChildEnded:
        workflow = children[child.workflow]
        assert isinstance(workflow, Workflow)
        ended = in_process(workflow).run(child.input)
        output = None if ended.error is not None else ended.output
        return facts.ChildEnded(child_id=child.id, status=ended.status, output=output, error=ended.error)

    run.child = child_ended
    return run


def resolved(action: str) -> Callable[..., Any]:
    """What an executor would call, from the text in the definition; its result as it arrives."""
    ref = ActionRef.parse(action)
    fn = BundleLoader("unused").resolve(None, target=ref.target, name=ref.name)
    return lambda **given: to_json(fn(**given))
