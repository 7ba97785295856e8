"""Pickles run code when they are loaded; wherever somebody may send one, nobody loads it."""

from __future__ import annotations

import base64
import pickle
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.core import CoreRun
from wonder_ray.bundles.imports import ImportSpace
from wonder_ray.bundles.loader import BundleLoader
from wonder_ray.bundles.store import BundleStore
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.files import parse_definition
from wonder_ray.errors import StorageError, WonderError
from wonder_ray.executor.protocol import decode_task
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.sqlite import SqliteRunStore
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable

RUN_ID: Final = "run_0192f0c1a2b3_0123456789abcdef"


class Touch:
    """Makes a file when its pickle is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture(params=range(pickle.HIGHEST_PROTOCOL + 1), ids=lambda protocol: f"protocol {protocol}")
def hostile(request: pytest.FixtureRequest, canary: Path) -> bytes:
    return pickle.dumps(Touch(canary), protocol=request.param)


def doors(folder: Path) -> dict[str, Callable[[bytes], object]]:
    """What takes bytes from outside of its process."""
    service = ResourcesService(":memory:")
    service.put_definition(b'{"name":"w","nodes":[]}')

    def load_bundle(data: bytes) -> object:
        return BundleLoader(folder, cache_folder=folder / "cache", space=ImportSpace()).load(BundleStore(folder).put(data))

    def open_run_file(data: bytes) -> object:
        path = Layout(folder).prepare().run_file(RUN_ID)
        path.write_bytes(data)
        return SqliteRunStore(path)

    return {
        "json": decode,
        "definition": service.put_definition,
        "json file": lambda data: parse_definition(data.decode("latin-1"), "json"),
        "yaml file": lambda data: parse_definition(data.decode("latin-1"), "yaml"),
        "input": lambda data: service.start_run(StartRequest(workflow_name="w", input=data)),
        "bundle": load_bundle,
        "run file": open_run_file,
    }


def test_a_hostile_pickle_is_one(hostile: bytes, canary: Path) -> None:
    pickle.loads(hostile)
    assert canary.exists()


def test_a_pickle_is_refused_and_not_loaded(hostile: bytes, canary: Path, storage: Path) -> None:
    for door, knock in doors(storage).items():
        with pytest.raises((WonderError, StorageError)) as refused:
            knock(hostile)
        assert str(refused.value), door
        assert not canary.exists(), door


def test_a_task_that_is_a_pickle_is_not_loaded(hostile: bytes, canary: Path) -> None:
    with pytest.raises(ValueError, match=r"MessagePack|Expected"):
        decode_task(hostile)
    assert not canary.exists()


def test_a_pickle_in_a_text_stays_a_text(hostile: bytes, canary: Path) -> None:
    flow = Workflow("echo", output={"said": "state.said"})
    flow.node("echo", "m:echo", input={"text": "input.text"}, output={"state.said": "result"})
    for text in (base64.b64encode(hostile).decode(), hostile.decode("latin-1")):
        run = CoreRun(flow.definition(), {"echo": partial(lambda text: text)}).run({"text": text})
        assert run.state.run.output == {"said": text}
    assert not canary.exists()
