"""Files of runs go when they are over, told and old; never others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.events.kept import EAGER, Past
from tests.events.kept import clock_at as noon_of
from wonder_ray.coordinator.keeping import expired, keep
from wonder_ray.events.service import EventService
from wonder_ray.resources.records import RunRecord
from wonder_ray.settings import Retention
from wonder_ray.state import RunStatus
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEPT = Retention(run_files_days=90)


class Registry:
    """The runs that there are: all of day 0, over on that day."""

    def __init__(self, storage: Path, count: int) -> None:
        self.layout = Layout(storage).prepare()
        self.pasts = [Past(number, 0, 0) for number in range(1, count + 1)]
        self.by_id = {past.run: self._record(past) for past in self.pasts}
        with EventService(storage, settings=EAGER) as service:
            for past in self.pasts:
                service.open(past.run, 1)
                service.submit([past.batch(1, past.length)])
                SqliteRunStore(self.layout.run_file(past.run)).close()
                self.layout.lock_file(past.run).touch()

    def _record(self, past: Past, status: RunStatus = RunStatus.COMPLETED) -> RunRecord:
        ended_us = noon_of(0).now_us()
        return RunRecord(
            run_id=past.run, workspace_id="default", project_id="default", key=None, workflow_name="f", workflow_version="v",
            root_run_id=past.run, parent_run_id=None, input=b"null", trace=False, labels={}, created_us=ended_us, epoch=1,
            placement=None, status=status, started_us=ended_us, ended_us=ended_us, events=past.length,
        )  # fmt: skip

    def __call__(self, run_ids: Sequence[str]) -> list[RunRecord]:
        return [self.by_id[run_id] for run_id in run_ids if run_id in self.by_id]

    def left(self) -> list[str]:
        return [past.run for past in self.pasts if self.layout.run_file(past.run).exists()]


def change(registry: Registry, number: int, **fields: object) -> str:
    import msgspec

    run_id = registry.pasts[number].run
    registry.by_id[run_id] = msgspec.structs.replace(registry.by_id[run_id], **fields)
    return run_id


def test_a_file_goes_after_its_time_with_all_that_is_beside_it(storage: Path) -> None:
    registry = Registry(storage, 3)
    assert list(expired(registry.layout, noon_of(0).now_us(), registry)) == []
    assert keep(registry.layout, KEPT, registry, clock=noon_of(89), trust_clock=True).removed == []
    kept = keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True)
    assert kept.removed == [past.run for past in registry.pasts]
    assert kept.size > 0
    assert list(registry.layout.runs.iterdir()) == []


def test_what_is_live_young_unknown_untold_or_held_stays(storage: Path) -> None:
    registry = Registry(storage, 6)
    live = change(registry, 0, status=RunStatus.RUNNING, ended_us=None)
    young = change(registry, 1, ended_us=noon_of(50).now_us())
    untold = change(registry, 2, events=99)
    unknown = registry.pasts[3].run
    del registry.by_id[unknown]
    held = registry.pasts[4].run
    lock = RunLock(registry.layout.lock_file(held))
    assert lock.try_acquire({"pid": 1})
    kept = keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True)
    assert kept.removed == [registry.pasts[5].run]
    assert set(registry.left()) == {live, young, untold, unknown, held}
    lock.release()
    assert keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True).removed == [held]


def test_rows_that_are_only_in_a_commit_log_keep_their_file(storage: Path) -> None:
    registry = Registry(storage, 1)
    late = Past(9, 0, 0)
    service = EventService(storage, settings=EAGER)
    service.flush()
    service.open(late.run, 1)
    service.submit([late.batch(1, late.length)])
    service.abandon()
    SqliteRunStore(registry.layout.run_file(late.run)).close()
    registry.pasts.append(late)
    registry.by_id[late.run] = registry._record(late)
    assert keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True).removed == [registry.pasts[0].run]


@pytest.mark.parametrize("days", [None, 90])
def test_nothing_goes_without_a_time_or_a_clock(storage: Path, days: int | None) -> None:
    registry = Registry(storage, 1)
    kept = keep(registry.layout, Retention(run_files_days=days), registry, clock=noon_of(5000))
    assert kept.removed == []
    assert bool(kept.problems) == (days is not None)
    assert keep(registry.layout, KEPT, registry, clock=noon_of(5000), trust_clock=True, stopping=lambda: True).removed == []


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_kill_while_a_file_goes_leaves_all_of_it_or_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """The file of a killed coordinator: its last turns are in the write-ahead log beside it."""
    registry = Registry(storage, 1)
    path = registry.layout.run_file(registry.pasts[0].run)
    killed = SqliteRunStore(path)
    killed.take_epoch(7)
    parts = {part: part.read_bytes() for part in path.parent.glob(f"{path.name}*")}
    killed.close()
    for part, content in parts.items():
        part.write_bytes(content)
    assert any(part.name.endswith("-wal") for part in parts)
    honest, left = type(path).unlink, [nth]

    def unlink(part: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        honest(part, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(type(path), "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True)
    if path.exists():
        with SqliteRunStore(path, read_only=True) as whole:
            assert whole.epoch_max() == 7
        assert keep(registry.layout, KEPT, registry, clock=noon_of(91), trust_clock=True).removed == [registry.pasts[0].run]
    assert not list(path.parent.glob(f"{path.name}*"))
