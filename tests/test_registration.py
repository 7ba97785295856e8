"""What the registry gets of a workflow: its children first, its code in the store, and all of it pinned."""

from __future__ import annotations

import hashlib
import types
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.bundles.store import BundleStore
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import DefinitionError
from wonder_ray.registration import put_definition, register
from wonder_ray.resources.service import ResourcesService
from wonder_ray.values import decode

if TYPE_CHECKING:
    from pathlib import Path


class Registry:
    def __init__(self) -> None:
        self.put_in: list[dict[str, Any]] = []

    def put(self, text: bytes) -> str:
        self.put_in.append(decode(text))
        return hashlib.sha256(text).hexdigest()

    @property
    def names(self) -> list[str]:
        return [each["name"] for each in self.put_in]


def leaf(name: str) -> Workflow:
    def work() -> str:
        return name

    flow = Workflow(name)
    flow.node("work", work)
    return flow


def test_children_go_first_each_once_and_are_pinned_with_their_code(tmp_path: Path) -> None:
    one, two, parent = leaf("one"), leaf("two"), Workflow("parent")
    two.subworkflow("again", one)
    two.transition("work", "again")
    for node, child in (("a", one), ("b", two), ("c", one)):
        parent.subworkflow(node, child)
    registry = Registry()
    version = register(parent, registry.put, tmp_path)
    assert registry.names == ["one", "two", "parent"]
    first, second, top = registry.put_in
    pinned = [node["version"] for node in top["nodes"]]
    assert pinned[0] == pinned[2] == second["nodes"][1]["version"] != pinned[1]
    assert "bundle" not in top
    for each in (first, second):
        assert b"work" in BundleStore(tmp_path).read(each["bundle"])
    assert version == register(parent, registry.put, tmp_path)


def test_a_definition_as_a_child_is_stored_as_it_is(tmp_path: Path) -> None:
    child, parent = Workflow("child"), Workflow("parent")
    child.compute("a")
    parent.subworkflow("a", child.definition())
    registry = Registry()
    register(parent, registry.put, tmp_path)
    assert registry.names == ["child", "parent"]
    assert registry.put_in[1]["nodes"][0]["version"] == child.definition().version


def test_nothing_is_stored_of_a_family_with_an_unsound_child(tmp_path: Path) -> None:
    child, parent = Workflow("child"), Workflow("parent")
    child.compute("a", output={"state.x": "("})
    parent.subworkflow("a", child)
    registry = Registry()
    with pytest.raises(DefinitionError, match="workflow 'child' cannot be used"):
        register(parent, registry.put, tmp_path)
    assert registry.put_in == []


def test_included_modules_are_packed(tmp_path: Path) -> None:
    flow = Workflow("w")
    flow.node("a", "textual:f")
    source = tmp_path / "textual.py"
    source.write_text("def f(): ...\n")
    module = types.ModuleType("textual")
    module.__file__ = str(source)
    flow.include(module, module)
    registry = Registry()
    register(flow, registry.put, tmp_path / "storage")
    assert b"textual.py" in BundleStore(tmp_path / "storage").read(registry.put_in[0]["bundle"])


def test_the_registry_learns_what_is_in_the_code_before_the_workflow_that_names_it(tmp_path: Path) -> None:
    service = ResourcesService(":memory:")

    def call(method: str, *args: Any, **named: Any) -> Any:
        return getattr(service, method)(*args, **named)

    version = register(leaf("one"), partial(put_definition, call, tmp_path), tmp_path)
    bundle = service.get_definition("one", version).bundle
    assert service.get_bundle(str(bundle)).content.pickles == ["work"]
    elsewhere = put_definition(call, tmp_path / "another machine", service.get_definition("one", version).definition)
    assert elsewhere == version
    service.close()
