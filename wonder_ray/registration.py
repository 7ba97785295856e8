"""Workflows on their way to the registry: with their code packed, and pinned to the children that go before them.

>>> from wonder_ray.definitions.builder import Workflow
>>> page, site = Workflow("page"), Workflow("site")
>>> _ = page.compute("read"), site.subworkflow("front", page)
>>> import tempfile
>>> stored = {}
>>> def put(text: bytes) -> str:
...     return stored.setdefault(text, f"{len(stored)}" * 64)
>>> register(site, put, Path(tempfile.mkdtemp()))[:8]
'11111111'
>>> [b"000000" in text for text in stored]
[False, True]
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - the example above needs it
from typing import TYPE_CHECKING, Any

from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.validation import check
from wonder_ray.resources.records import DEFAULT_WORKSPACE, BundleContent
from wonder_ray.values import canonical, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.definitions.authoring.children import Parent
    from wonder_ray.definitions.models import WorkflowDefinition


def register(flow: Workflow | WorkflowDefinition, put: Callable[[bytes], str], storage: Path) -> str:
    """Store a workflow and its code, after the workflows that it runs as children and was given as such; gives its version.

    Args:
        flow: The workflow.
        put: Stores a definition's canonical JSON; gives its version.
        storage: The storage folder, where the code goes; nothing in it counts as code.

    Raises:
        DefinitionError: One of the definitions is wrong.
        CodeBundleError: Code cannot be packed.
    """
    return _Registration(put, storage).add(flow)


def in_environment(definition: bytes, runtime_env: Mapping[str, Any]) -> bytes:
    """A definition (canonical JSON) whose tasks have this runtime environment where their node has none.

    >>> in_environment(b'{"name":"f","nodes":[{"action":"os:getpid","id":"a","kind":"action"}]}', {"pip": ["emoji"]})
    b'{"name":"f","nodes":[{"action":"os:getpid","id":"a","kind":"action","resources":{"runtime_env":{"pip":["emoji"]}}}]}'
    """
    found: Any = decode(definition)
    working = [node for node in found["nodes"] if node["kind"] in {"action", "steps"}]
    for part in [*working, *(node["undo"] for node in found["nodes"] if node.get("undo"))]:
        resources = part.get("resources") or {}
        if not resources.get("runtime_env"):
            part["resources"] = {**resources, "runtime_env": dict(runtime_env)}
    return canonical(found)


def put_definition(call: Callable[..., Any], storage: Path, definition: bytes, workspace_id: str = DEFAULT_WORKSPACE) -> str:
    """Store a definition in the registry, after what its code bundle holds; gives its version.

    Args:
        call: Calls a method of the registry, by its name.
        storage: The storage folder, where the bundle lies.
        definition: Canonical JSON.
        workspace_id: Whose.
    """
    sha256 = decode(definition).get("bundle")
    if sha256 is not None:
        manifest = BundleStore(storage).manifest(sha256)
        if manifest is not None:  # else the registry knows the bundle, or refuses
            names = {"targets": manifest.targets, "pickles": sorted(manifest.pickles), "files": sorted(manifest.files)}
            content = BundleContent(**names, size_bytes=sum(manifest.files.values()))
            call("put_bundle", sha256, content, workspace_id=workspace_id)
    version: str = call("put_definition", definition, workspace_id=workspace_id)
    return version


class _Registration:
    def __init__(self, put: Callable[[bytes], str], storage: Path) -> None:
        self._put = put
        self._storage = storage
        self._versions: dict[int, str] = {}
        """By the identity of the workflow: one that several nodes run is stored once."""

    def add(self, flow: Parent | WorkflowDefinition) -> str:
        if id(flow) not in self._versions:
            definition = self._with_code(flow) if isinstance(flow, Workflow) else check(flow)  # type: ignore[arg-type] # no other Parent
            self._versions[id(flow)] = self._put(canonical(definition.to_json()))
        return self._versions[id(flow)]

    def _with_code(self, flow: Workflow) -> WorkflowDefinition:
        definition = flow.definition(versions={node: self.add(child) for node, child in flow.children.items()})
        if not flow.actions and not flow.modules:
            return definition
        bundle = pack([*flow.actions, *flow.modules], exclude=(self._storage,))
        if not bundle.manifest.files:
            return definition
        BundleStore(self._storage).put(bundle.data)
        return definition.model_copy(update={"bundle": bundle.sha256})
