from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.coordinator.fakes import RUN_ID, FakeChildren, FakeGateway, FakeLog, FakeRegistry, FakeServices, FakeSink
from tests.coordinator.flows import chain
from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.host import CoordinatorHost
from wonder_ray.coordinator.opening import Ports
from wonder_ray.errors import CommandRefusedError, ServiceUnavailableError, StorageError
from wonder_ray.planning.facts import CancelRun, SignalRun
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import RunLock, read_holder
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WaitUntil


class PromptSink(FakeSink):
    """Acknowledges at once."""

    def append(self, batch: Any, on_ack: Callable[[Any], None], on_error: Callable[[Exception], None]) -> None:
        super().append(batch, on_ack, on_error)
        self.acknowledge()


class Hosted:
    """A host on a real file, its outside simulated."""

    def __init__(self, storage: Path, **options: Any) -> None:
        self.layout = Layout(storage).prepare()
        self.services = FakeServices(chain(), {"n": 1})
        self.gateway = FakeGateway()
        self.registry = FakeRegistry()
        self.log = FakeLog()
        self.exits: list[BaseException | None] = []
        self.host = CoordinatorHost(RUN_ID, self.layout, self._ports, {"pid": os.getpid()}, self.exits.append, **options)

    def _ports(self, _host: CoordinatorHost) -> Ports:
        return Ports(
            services=self.services,
            gateway=self.gateway,
            sink=PromptSink(),
            registry=self.registry,
            children=FakeChildren(),
            log=self.log,
            clock=SystemClock(),
        )

    def finish(self, wait_until: WaitUntil) -> None:
        for _ in range(2):
            wait_until(lambda: any(not task.is_back for task in self.gateway.sent), what="a task")
            self.gateway.sent[-1].succeed(1)
        wait_until(lambda: bool(self.exits), what="the host to end")


def test_a_host_carries_a_run_to_its_end_and_lets_go_of_its_file(storage: Path, wait_until: WaitUntil) -> None:
    hosted = Hosted(storage)
    hosted.host.start()
    wait_until(lambda: hosted.gateway.sent, what="the first task")
    holder = read_holder(hosted.layout.lock_file(RUN_ID))
    assert holder is not None
    assert (holder["pid"], holder["epoch"]) == (os.getpid(), 1)
    hosted.finish(wait_until)
    assert hosted.exits == [None]
    assert hosted.host.ended.result(0).status == "completed"
    assert [report["status"] for report in hosted.registry.reports] == ["running", "completed"]
    assert read_holder(hosted.layout.lock_file(RUN_ID)) is None
    with SqliteRunStore(hosted.layout.run_file(RUN_ID), read_only=True) as store:
        stored = store.load()
    assert stored is not None
    assert stored.run.status == "completed"


def test_a_command_is_answered_after_its_commit(storage: Path, wait_until: WaitUntil) -> None:
    hosted = Hosted(storage)
    hosted.host.start()
    answer = hosted.host.command(CancelRun(reason="stop", key="k"), key="k")
    assert answer.result(10) == {"ok": True, "run_id": RUN_ID}
    wait_until(lambda: bool(hosted.exits), what="the host to end")
    assert hosted.host.ended.result(0).status == "cancelled"


def test_two_hosts_never_run_one_run_together(storage: Path, wait_until: WaitUntil) -> None:
    first, second = Hosted(storage), Hosted(storage, lock_seconds=0.1)
    first.host.start()
    wait_until(lambda: first.gateway.sent, what="the first task")
    second.host.start()
    wait_until(lambda: bool(second.exits), what="the second to give up")
    (error,) = second.exits
    assert isinstance(error, StorageError)
    assert str(os.getpid()) in str(error)
    assert (second.services.asked, second.gateway.sent) == ([], [])
    with pytest.raises(StorageError):
        second.host.ended.result(0)
    first.finish(wait_until)
    assert first.exits == [None]


def test_a_host_waits_for_a_predecessor_that_is_about_to_go(storage: Path, wait_until: WaitUntil) -> None:
    hosted = Hosted(storage)
    lock = RunLock(hosted.layout.lock_file(RUN_ID))
    assert lock.try_acquire({"pid": 1})
    hosted.host.start()
    wait_until(lambda: "coordinator_started" in hosted.log.types, what="the host to begin")
    assert hosted.services.asked == []
    lock.release()
    hosted.finish(wait_until)
    assert hosted.exits == [None]


def test_a_failing_opening_ends_the_host_with_its_error(storage: Path, wait_until: WaitUntil) -> None:
    hosted = Hosted(storage)

    def refuse(known: int) -> Any:
        raise ServiceUnavailableError("no registry")

    hosted.services.claim = refuse  # type: ignore[method-assign] # a service that is away
    hosted.host.start()
    wait_until(lambda: bool(hosted.exits), what="the host to end")
    assert isinstance(hosted.exits[0], ServiceUnavailableError)
    assert read_holder(hosted.layout.lock_file(RUN_ID)) is None


def test_what_nobody_reads_any_more_is_answered(storage: Path, wait_until: WaitUntil) -> None:
    lock = RunLock(Layout(storage).prepare().lock_file(RUN_ID))
    assert lock.try_acquire({"pid": 1})
    hosted = Hosted(storage, lock_seconds=0.05)
    answer = hosted.host.command(CancelRun(reason="stop"))
    hosted.host.start()
    with pytest.raises(StorageError, match="run by another coordinator"):
        answer.result(10)
    lock.release()
    broken = Hosted(storage)
    broken.host._ports = lambda _host: 1 // 0  # type: ignore[assignment,return-value] # it never returns
    answer = broken.host.query(lambda state, _: state.run.status)
    broken.host.start()
    with pytest.raises(ServiceUnavailableError, match="ask again"):
        answer.result(10)


def test_a_run_that_has_ended_repeats_its_answers_and_refuses_all_else(storage: Path, wait_until: WaitUntil) -> None:
    hosted = Hosted(storage)
    first = hosted.host.command(CancelRun(reason="stop", key="k"), key="k")
    hosted.host.start()
    assert first.result(10)["ok"]
    wait_until(lambda: hosted.exits)
    again = Hosted(storage)
    repeated = again.host.command(CancelRun(reason="another", key="k"), key="k")
    new = again.host.command(SignalRun(name="go", key="n"), key="n")
    status = again.host.query(lambda state, _: state.run.status)
    again.host.start()
    assert repeated.result(10) == first.result(0)
    with pytest.raises(CommandRefusedError, match="it has ended"):
        new.result(10)
    assert status.result(10) == "cancelled"
    wait_until(lambda: again.exits)
    assert hosted.exits == again.exits == [None]
