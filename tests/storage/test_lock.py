"""The lock of a run: one holder per host, and it dies with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wonder_ray.errors import StorageError
from wonder_ray.storage.lock import RunLock, read_holder

ROOT = Path(__file__).parents[2]
HOLDER = """
import os, sys
from pathlib import Path
from wonder_ray.storage.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print(lock.try_acquire({"pid": os.getpid(), "epoch": 4}), flush=True)
sys.stdin.read()
lock.release()
"""


class Holder:
    """A process that takes the lock and keeps it until it is told to stop."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.acquired = self.process.stdout.readline() == "True\n"

    def end(self, how: int | None = None) -> None:
        if how is not None:
            self.process.send_signal(how)
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


def test_a_lock_that_nobody_ever_held_has_no_holder(path: Path) -> None:
    assert read_holder(path) is None
    assert not path.exists()


def test_the_holder_is_what_it_wrote(path: Path) -> None:
    lock = RunLock(path)
    info = {"pid": 1, "node": "n", "host": "hôst", "epoch": 3, "placement": "dedicated", "since_us": 7}
    assert lock.try_acquire(info)
    assert lock.held
    assert read_holder(path) == info
    for other in ({**info, "epoch": 4, "node": "n" * 500}, {"pid": 2}):
        lock.update(other)
        assert read_holder(path) == other


def test_only_one_can_hold_it(path: Path) -> None:
    first, second = RunLock(path), RunLock(path)
    assert first.try_acquire({"pid": 1})
    assert not second.try_acquire({"pid": 2})
    assert not first.try_acquire({"pid": 1})
    assert read_holder(path) == {"pid": 1}
    first.release()
    first.release()
    assert not first.held
    assert read_holder(path) is None
    assert second.try_acquire({"pid": 2})
    second.release()


def test_another_process_holds_it_until_it_releases(path: Path) -> None:
    holder = Holder(path)
    assert holder.acquired
    assert read_holder(path) == {"pid": holder.process.pid, "epoch": 4}
    assert not RunLock(path).try_acquire({"pid": 0})
    holder.end()
    assert read_holder(path) is None
    lock = RunLock(path)
    assert lock.try_acquire({"pid": 0})
    lock.release()


def test_the_lock_dies_with_its_process_though_its_words_stay(path: Path) -> None:
    holder = Holder(path)
    holder.end(signal.SIGKILL)
    assert path.read_text()
    assert read_holder(path) is None
    lock = RunLock(path)
    assert lock.try_acquire({"pid": 5})
    assert read_holder(path) == {"pid": 5}
    lock.release()
    assert path.read_bytes() == b""


def test_those_who_ask_never_keep_a_coordinator_from_its_run(path: Path) -> None:
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            read_holder(path)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    path.touch()
    for asker in askers:
        asker.start()
    try:
        for _ in range(200):
            lock = RunLock(path)
            assert lock.try_acquire({"pid": os.getpid()})
            lock.release()
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def test_a_lock_taken_but_not_yet_signed_has_a_nameless_holder(path: Path) -> None:
    lock = RunLock(path)
    assert lock.try_acquire({"pid": 1})
    for content in (b"", b'{"pid": 1', b"[1]\n", b"\xff\n"):
        path.write_bytes(content)
        assert read_holder(path) == {}
    lock.release()


def test_a_lock_that_is_not_held_cannot_be_updated(path: Path) -> None:
    with pytest.raises(StorageError, match="not held"):
        RunLock(path).update({"pid": 1})


def test_a_lock_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*WONDER_STORAGE"):
        RunLock(tmp_path / "nowhere" / "run.lock").try_acquire({})
    with pytest.raises(StorageError, match="cannot be used"):
        RunLock(tmp_path).try_acquire({})
