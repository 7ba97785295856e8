"""Power loss: of what was written since the last sync, any part may be on the disk; no acknowledged turn may be gone.

A VFS notes every write and sync of some turns. An image is the disk after a cut at some point of that list: everything
synced, and of the rest a random choice of sectors, in any order.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import apsw
import pytest

from tests.storage.samples import full_token, lines, record
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTOR = 512
TURNS = 12
IMAGES = 400


class Step(NamedTuple):
    """Something that happened to a file, or (`kind` "told") a turn whose commit returned."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""


class NotingVFS(apsw.VFS):
    def __init__(self) -> None:
        self.vfs_name = f"noting-{id(self)}"
        super().__init__(self.vfs_name, "")
        self.steps: list[Step] = []

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> NotingFile:  # noqa: N802 - SQLite's name
        return NotingFile(self, name, flags)


class NotingFile(apsw.VFSFile):
    def __init__(self, vfs: NotingVFS, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.steps = vfs.steps
        self.file = "log" if str(name.filename() if isinstance(name, apsw.URIFilename) else name).endswith("-wal") else "main"
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self.steps.append(Step("write", self.file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite's name
        self.steps.append(Step("truncate", self.file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self.steps.append(Step("sync", self.file))


@pytest.fixture
def vfs() -> Iterator[NotingVFS]:
    noting = NotingVFS()
    yield noting
    noting.unregister()


def note_turns(path: Path, vfs: NotingVFS) -> bytes:
    """Runs some turns with checkpoints between them; the file as it was before them."""
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
    before = path.read_bytes()
    with SqliteRunStore(path, vfs=vfs.vfs_name) as store:
        for turn in range(1, TURNS + 1):
            store.commit(record(turn, tokens=[full_token(turn)], events=lines(3 * turn - 2, 3 * turn)))
            vfs.steps.append(Step("told", offset=turn))
            if turn % 5 == 0:
                store.checkpoint()
            if turn % 4 == 0:
                store.forget("events", 3 * turn - 3)
    return before


def image(before: bytes, steps: list[Step], rng: random.Random) -> tuple[dict[str, bytearray], int]:
    """The two files after a power loss at the end of these steps, and the last turn that was acknowledged."""
    disk = {"main": bytearray(before), "log": bytearray()}
    unsynced: dict[str, list[Step]] = {"main": [], "log": []}
    told = 0
    for step in steps:
        if step.kind == "told":
            told = step.offset
        elif step.kind == "sync":
            for pending in unsynced[step.file]:
                put(disk[step.file], pending)
            unsynced[step.file].clear()
        else:
            unsynced[step.file].append(step)
    for file, left in unsynced.items():
        chance = rng.choice((0.0, 0.3, 0.7, 1.0))
        parts = [part for step in left for part in sectors(step) if rng.random() < chance]
        if rng.random() < 0.5:
            rng.shuffle(parts)
        for part in parts:
            put(disk[file], part)
    return disk, told


def sectors(step: Step) -> list[Step]:
    """What of a write can be lost by itself."""
    if step.kind == "truncate":
        return [step]
    starts = range(0, len(step.data), SECTOR)
    return [Step("write", step.file, step.offset + start, step.data[start : start + SECTOR]) for start in starts]


def put(content: bytearray, step: Step) -> None:
    end = step.offset + len(step.data)
    if step.kind == "truncate":
        del content[step.offset :]
    elif len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : end] = step.data


def test_no_acknowledged_turn_is_lost_and_none_is_torn(tmp_path: Path, vfs: NotingVFS) -> None:
    before = note_turns(tmp_path / "noted.sqlite", vfs)
    assert {step.kind for step in vfs.steps} == {"write", "sync", "told", "truncate"}
    for seed in range(IMAGES):
        rng = random.Random(seed)
        disk, told = image(before, vfs.steps[: rng.randrange(len(vfs.steps) + 1)], rng)
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(disk["main"])
        if disk["log"]:
            path.with_name(path.name + "-wal").write_bytes(disk["log"])
        with SqliteRunStore(path) as store:
            stored = store.load()
            turn = 0 if stored is None else stored.run.turn
            assert told <= turn <= told + 1, f"seed {seed}"
            if stored is not None:
                assert [token.ordinal for token in stored.tokens] == list(range(1, turn + 1)), f"seed {seed}"
                assert stored.last_sequence == 3 * turn, f"seed {seed}"
                sequences = [row[0] for row in store.outbox("events")]
                assert sequences == list(range(sequences[0], 3 * turn + 1)), f"seed {seed}"
        path.unlink()
