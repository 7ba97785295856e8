"""How definitions of the core's tests run on a cluster: their actions in a bundle, and slowed down where an order matters."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.definitions.models import ActionNode
from wonder_ray.executor.registry import as_action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.client import Client
    from wonder_ray.definitions.models import WorkflowDefinition


def put_actions(client: Client, project: Path) -> str:
    """Store the bundle that runs any of `tests.cases.words`; its hash."""
    shutil.copy(Path(__file__).parent / "case_actions.py", project)
    code = pack([as_action(importlib.import_module("case_actions").run_case)])
    return BundleStore(client.storage.root).put(code.data)


def on_ray(definition: WorkflowDefinition, name: str, bundle: str, seconds: Mapping[str, float]) -> WorkflowDefinition:
    """The definition under a name, its actions from the bundle, some of them taking their time."""
    nodes = [_slowed(node, seconds.get(node.id, 0.0)) if isinstance(node, ActionNode) else node for node in definition.nodes]
    return definition.model_copy(update={"name": name, "nodes": tuple(nodes), "bundle": bundle})


def _slowed(node: ActionNode, seconds: float) -> ActionNode:
    given = ", ".join(f"{json.dumps(name)}: {text}" for name, text in node.input.items())
    inputs = {"ref": json.dumps(node.action), "seconds": repr(float(seconds)), "given": "{" + given + "}"}
    return node.model_copy(update={"action": "case_actions:run_case", "input": inputs})
