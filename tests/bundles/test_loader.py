from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wonder_ray.bundles import loader as loader_module
from wonder_ray.bundles.imports import ImportSpace, is_importing
from wonder_ray.bundles.loader import BundleLoader
from wonder_ray.bundles.manifest import MANIFEST_NAME
from wonder_ray.bundles.pack import _zip, pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.errors import CodeBundleError
from wonder_ray.executor.registry import action

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Setup:
    """A storage, a loader with its own import space, and bundles made of source texts."""

    def __init__(self, tmp_path: Path, storage: Path) -> None:
        self.cache = tmp_path / "cache"
        self.storage = storage
        self.space = ImportSpace()
        self.loader = self.fresh_loader()

    def fresh_loader(self) -> BundleLoader:
        return BundleLoader(self.storage, cache_folder=self.cache, space=self.space)

    def bundle(self, **sources: str) -> str:
        files = {f"{name}.py": text.encode() for name, text in sources.items()}
        manifest = msgspec.json.encode({"files": {name: len(text) for name, text in files.items()}})
        return BundleStore(self.storage).put(_zip({**files, MANIFEST_NAME: manifest}))

    def call(self, sha256: str, target: str, *args: Any) -> Any:
        found = self.loader.resolve(sha256, target=target)
        return found(*args)


@pytest.fixture
def setup(tmp_path: Path, storage: Path) -> Iterator[Setup]:
    made = Setup(tmp_path, storage)
    yield made
    made.space.deactivate()


def test_two_versions_of_one_file_run_alternately_in_one_process(setup: Setup) -> None:
    first = setup.bundle(
        twofaced="import part\ndef act():\n    import late\n    return part.VALUE, late.VALUE", part="VALUE = 1", late="VALUE = 1"
    )
    second = setup.bundle(
        twofaced="import part\ndef act():\n    import late\n    return part.VALUE, late.VALUE", part="VALUE = 2", late="VALUE = 2"
    )
    found = [setup.call(sha, "twofaced:act") for sha in (first, second, first, second, second)]
    assert found == [
        (1, 1),
        (2, 2),
        (1, 1),
        (2, 2),
        (2, 2),
    ]


def test_a_bundle_is_imported_once_and_keeps_its_state(setup: Setup) -> None:
    counter = "n = 0\ndef act():\n    global n\n    n += 1\n    return n"
    first, second = setup.bundle(counting=counter), setup.bundle(counting=counter + "\n")
    assert [setup.call(sha, "counting:act") for sha in (first, second, first, first)] == [1, 1, 2, 3]


def test_a_module_of_the_process_steps_aside_and_comes_back(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drivers_own.py").write_text("VALUE = 'the driver'")
    monkeypatch.syspath_prepend(str(tmp_path))
    import drivers_own  # type: ignore[import-not-found] # made above

    sha256 = setup.bundle(drivers_own="VALUE = 'the bundle'\ndef act():\n    return VALUE")
    assert setup.call(sha256, "drivers_own:act") == "the bundle"
    setup.space.deactivate()
    assert sys.modules["drivers_own"] is drivers_own
    del sys.modules["drivers_own"]


def test_the_main_part_of_a_script_is_not_executed(setup: Setup) -> None:
    sha256 = setup.bundle(script="ran = __name__ == '__main__'\nif ran:\n    raise SystemExit\ndef act():\n    return ran")
    assert setup.call(sha256, "script:act") is False


def test_code_can_tell_that_an_executor_imports_it(setup: Setup) -> None:
    sha256 = setup.bundle(
        asking="from wonder_ray.bundles.imports import is_importing\n"
        "seen = is_importing()\ndef act():\n    return seen, is_importing()"
    )
    assert setup.call(sha256, "asking:act") == (True, False)
    assert not is_importing()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_module_anywhere", "Install no_such_module_anywhere on every node"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def other(): pass", "has no 'act'"),
        ("def act(:", "SyntaxError"),
    ],
)
def test_code_that_does_not_load_says_why(setup: Setup, source: str, expected: str) -> None:
    with pytest.raises(CodeBundleError, match=expected):
        setup.call(setup.bundle(broken_code=source), "broken_code:act")


def test_a_name_that_cannot_step_aside_is_an_error_and_no_mixture(setup: Setup) -> None:
    with pytest.raises(CodeBundleError, match="rename the file"):
        setup.call(setup.bundle(json="def dumps():\n    pass"), "json:dumps")


def test_without_a_bundle_only_installed_modules_are_found(setup: Setup) -> None:
    setup.call(setup.bundle(only_bundled="def act():\n    return 1"), "only_bundled:act")
    assert setup.loader.resolve(None, target="json:loads")("1") == 1
    with pytest.raises(CodeBundleError, match="No module named 'only_bundled'"):
        setup.loader.resolve(None, target="only_bundled:act")


def test_pickled_actions_are_found_by_name(setup: Setup) -> None:
    factor = 3
    times = action(name="times")(lambda n: factor * n)
    sha256 = BundleStore(setup.storage).put(pack([times]).data)
    assert setup.loader.resolve(sha256, name="times")(5) == 15
    with pytest.raises(CodeBundleError, match=r"no action 'other'.*it has: times"):
        setup.loader.resolve(sha256, name="other")


def test_a_pickle_of_another_python_is_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    one = action(name="one")(lambda: 1)
    sha256 = BundleStore(setup.storage).put(pack([one]).data)
    monkeypatch.setattr(loader_module, "python_version", lambda: "3.99")
    with pytest.raises(CodeBundleError, match=r"this executor has Python 3\.99"):
        setup.loader.resolve(sha256, name="one")


def test_an_extracted_bundle_needs_no_storage_and_is_mended_when_damaged(setup: Setup) -> None:
    sha256 = setup.bundle(mended="def act():\n    return 1")
    path = setup.loader.load(sha256).path
    (path / "mended.py").unlink()
    assert (setup.fresh_loader().load(sha256).path / "mended.py").is_file()
    BundleStore(setup.storage).path(sha256).unlink()
    assert setup.fresh_loader().load(sha256).path == path
    assert [found.name for found in setup.cache.iterdir()] == [sha256]


def test_a_bundle_that_is_on_another_node_is_fetched(setup: Setup, tmp_path: Path) -> None:
    sha256 = setup.bundle(distant="def act():\n    return 1")
    asked: list[str] = []

    def fetch(wanted: str) -> bytes:
        asked.append(wanted)
        return BundleStore(setup.storage).read(wanted)

    here = tmp_path / "not" / "there"
    loader = BundleLoader(here, cache_folder=setup.cache, space=setup.space, fetch=fetch)
    assert loader.resolve(sha256, target="distant:act")() == 1
    assert BundleLoader(here, cache_folder=setup.cache, space=setup.space, fetch=fetch).load(sha256)
    assert asked == [sha256]
    with pytest.raises(CodeBundleError, match="another sha256"):
        BundleStore(here, lambda _: b"not it").read(sha256)


def test_threads_may_load_one_bundle_at_once(setup: Setup) -> None:
    sha256 = setup.bundle(raced="def act():\n    return 1")
    barrier = threading.Barrier(8)
    results: list[object] = []

    def load() -> None:
        barrier.wait()
        results.append(setup.fresh_loader().load(sha256).path)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [setup.cache.resolve() / sha256] * 8
    assert [found.name for found in setup.cache.iterdir()] == [sha256]


@pytest.mark.parametrize("name", ["../escaped.py", "/etc/escaped.py", "a/../../escaped.py"])
def test_an_archive_cannot_write_outside_its_folder(setup: Setup, name: str) -> None:
    sha256 = BundleStore(setup.storage).put(_zip({name: b"", MANIFEST_NAME: b"{}"}))
    with pytest.raises(CodeBundleError, match="refused"):
        setup.loader.load(sha256)


def test_what_is_no_archive_is_refused(setup: Setup) -> None:
    with pytest.raises(CodeBundleError, match="is no archive"):
        setup.loader.load(BundleStore(setup.storage).put(b"no zip"))


SCRIPT = """
import sys
from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.executor.registry import action

WORD = "hello "

@action
def greet(name):
    return WORD + name

if __name__ == "__main__":
    bundle = pack([greet])
    print(greet.ref.target, BundleStore(sys.argv[1]).put(bundle.data))
"""


def test_a_script_that_ran_as_main_is_imported_under_its_file_name(setup: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "greeting_flow.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "greeting_flow.py"), str(setup.storage)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}).stdout
    target, sha256 = printed.split()
    assert target == "greeting_flow:greet"
    assert setup.call(sha256, target, "you") == "hello you"


def test_functions_of_a_repl_travel_by_value(setup: Setup) -> None:
    code = SCRIPT.replace("greet.ref.target", "greet.ref.pickled")
    command = [sys.executable, "-c", code, str(setup.storage)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}).stdout
    pickled, sha256 = printed.split()
    assert pickled == "True"
    assert setup.loader.resolve(sha256, name="greet")("you") == "hello you"
