from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.bundles import tree
from wonder_ray.bundles.modules import import_file
from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.errors import CodeBundleError
from wonder_ray.executor.registry import action, as_action

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOW = """
import helper_of_flow
import numpy
from wonder_ray.executor.registry import action

@action
def greet(name):
    return helper_of_flow.word() + name
"""


FILES = ["flow_to_pack.py", "helper_of_flow.py", "sub/__init__.py", "sub/more.py"]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's folder with `flow_to_pack.py`, imported."""
    folder = tmp_path / "project"
    write(folder / "flow_to_pack.py", FLOW)
    write(folder / "helper_of_flow.py", "def word():\n    return 'hello '\n")
    write(folder / "sub" / "__init__.py", "")
    write(folder / "sub" / "more.py", "x = 1\n")
    write(folder / "unrelated" / "other.py", "")
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield importlib.import_module("flow_to_pack")
    for name in set(sys.modules) - before:
        if name.startswith(("flow_to_pack", "helper_of_flow", "package_to_pack")):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_folder_of_a_lone_file_is_packed(flow: Any) -> None:
    bundle = pack([flow.greet])
    assert sorted(bundle.manifest.files) == FILES
    assert bundle.manifest.targets == ["flow_to_pack:greet"]
    assert bundle.manifest.python is None


def test_installed_modules_are_named_and_not_packed(flow: Any) -> None:
    (requirement,) = pack([flow.greet]).manifest.requires
    assert (requirement.module, requirement.distribution) == ("numpy", "numpy")
    assert requirement.version


def test_an_action_of_an_installed_module_packs_no_file() -> None:
    import json

    bundle = pack([as_action(json.dumps)])
    assert bundle.manifest.files == {}
    assert bundle.manifest.targets == ["json:dumps"]


def test_the_same_content_has_the_same_hash(flow: Any, tmp_path: Path) -> None:
    first = pack([flow.greet])
    for path in (tmp_path / "project").glob("*.py"):
        path.touch()
    again = pack([flow.greet])
    assert again.sha256 == first.sha256
    write(tmp_path / "project" / "helper_of_flow.py", "def word():\n    return 'hi '\n")
    assert pack([flow.greet]).sha256 != first.sha256


def test_what_is_no_source_stays_out(flow: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in (
        ".env",
        ".git/x.py",
        ".venv/y.py",
        "__pycache__/z.py",
        "results.json",
        "not-importable/a.py",
        "v/pyvenv.cfg",
        "v/b.py",
    ):
        write(project / name, "")
    write(project / "storage" / "c.py", "")
    write(project / "mine" / "resources.sqlite", "")
    write(project / "mine" / "d.py", "")
    bundle = pack([flow.greet], exclude=[project / "storage"])
    assert sorted(bundle.manifest.files) == FILES


def test_a_folder_that_is_no_package_is_packed_when_it_is_imported_or_named(flow: Any, tmp_path: Path) -> None:
    assert "unrelated/other.py" in pack([flow.greet], root=tmp_path / "project").manifest.files
    write(tmp_path / "project" / "helper_of_flow.py", "import unrelated.other")
    assert "unrelated/other.py" in pack([flow.greet]).manifest.files


def test_loose_data_files_come_by_pattern_only(flow: Any, tmp_path: Path) -> None:
    write(tmp_path / "project" / "prompts" / "one.txt", "")
    assert "prompts/one.txt" not in pack([flow.greet]).manifest.files
    assert "prompts/one.txt" in pack([flow.greet], data=["prompts/*.txt"]).manifest.files


def test_a_package_is_packed_with_its_small_data_files(flow: Any, tmp_path: Path) -> None:
    package = tmp_path / "project" / "package_to_pack"
    write(package / "__init__.py", "")
    write(package / "steps" / "__init__.py", "")
    write(package / "steps" / "one.py", "import helper_of_flow\ndef act():\n    pass\n")
    write(package / "templates" / "page.html", "<p>")
    write(package / "large.csv", "x" * (tree.DATA_FILE_BYTES_MAX + 1))
    importlib.invalidate_caches()
    bundle = pack([as_action(importlib.import_module("package_to_pack.steps.one").act)])
    assert sorted(bundle.manifest.files) == [
        "helper_of_flow.py",  # imported by the package
        "package_to_pack/__init__.py",
        "package_to_pack/steps/__init__.py",
        "package_to_pack/steps/one.py",
        "package_to_pack/templates/page.html",
    ]
    assert bundle.manifest.targets == ["package_to_pack.steps.one:act"]


def test_a_module_can_be_named(flow: Any) -> None:
    assert "flow_to_pack.py" in pack([flow]).manifest.files


def test_too_much_code_is_refused_and_the_largest_files_named(flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "project" / "generated.py", "#" * 5000)
    monkeypatch.setattr(tree, "BUNDLE_BYTES_MAX", 4000)
    with pytest.raises(CodeBundleError, match=r"Largest: generated\.py \(5,000\)"):
        pack([flow.greet])


def test_lambdas_and_local_functions_travel_by_value() -> None:
    def local(n: int) -> int:
        return n + 1

    double = action(name="double")(lambda n: 2 * n)
    bundle = pack([as_action(local), double])
    assert sorted(bundle.manifest.pickles) == ["double", "local"]
    assert bundle.manifest.python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_what_a_pickled_function_uses_of_the_users_own_files_is_packed(flow: Any) -> None:
    import helper_of_flow  # type: ignore[import-not-found] # the fixture makes it

    refers = action(name="refers")(lambda: helper_of_flow.word() + "!")
    assert "helper_of_flow.py" in pack([refers]).manifest.files

    def imports_when_called() -> object:
        import flow_to_pack  # type: ignore[import-not-found] # the fixture makes it

        return flow_to_pack.greet

    assert "flow_to_pack.py" in pack([as_action(imports_when_called)]).manifest.files


def test_two_pickled_actions_of_one_name_are_refused() -> None:
    one, other = action(name="same")(lambda: 1), action(name="same")(lambda: 2)
    with pytest.raises(CodeBundleError, match="called 'same'"):
        pack([one, other])


def test_what_cannot_be_pickled_is_named() -> None:
    import threading

    lock = threading.Lock()
    held = action(name="held")(lambda: lock)
    with pytest.raises(CodeBundleError, match=r"'held' cannot travel by value.*inside the function"):
        pack([held])


def test_a_root_that_does_not_hold_the_action_is_refused(flow: Any, tmp_path: Path) -> None:
    with pytest.raises(CodeBundleError, match="is not imported from the root"):
        pack([flow.greet], root=tmp_path)


def test_a_stored_bundle_is_read_back_and_damage_noticed(storage: Path) -> None:
    store = BundleStore(storage)
    sha256 = store.put(b"some code")
    assert store.put(b"some code") == sha256
    assert store.read(sha256) == b"some code"
    assert [path.name for path in (storage / "blobs" / sha256[:2]).iterdir()] == [sha256]
    store.path(sha256).write_bytes(b"some c0de")
    with pytest.raises(CodeBundleError, match="damaged"):
        store.read(sha256)
    store.put(b"some code")  # storing it again mends it
    assert store.read(sha256) == b"some code"


def test_a_file_is_imported_under_the_name_that_executors_use(flow: Any, tmp_path: Path) -> None:
    assert import_file(tmp_path / "project" / "flow_to_pack.py") is flow
    write(tmp_path / "project" / "package_to_pack" / "__init__.py", "")
    write(tmp_path / "project" / "package_to_pack" / "inner.py", "ran = __name__")
    assert import_file(tmp_path / "project" / "package_to_pack" / "inner.py").ran == "package_to_pack.inner"


def test_a_file_with_the_name_of_another_module_is_refused(flow: Any, tmp_path: Path) -> None:
    write(tmp_path / "project" / "json.py", "")
    with pytest.raises(CodeBundleError, match="rename the file"):
        import_file(tmp_path / "project" / "json.py")
    with pytest.raises(CodeBundleError, match="no Python file"):
        import_file(tmp_path / "project" / "none.py")


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_hashes_name_a_bundle(storage: Path, name: str) -> None:
    with pytest.raises(CodeBundleError, match="not the sha256"):
        BundleStore(storage).read(name)


def test_a_missing_bundle_says_where_it_should_be(storage: Path) -> None:
    with pytest.raises(CodeBundleError, match="No such file or directory; restore it"):
        BundleStore(storage).read("0" * 64)
