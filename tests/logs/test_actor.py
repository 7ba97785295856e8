"""The service as a Ray actor, and the sender that never fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import ray

from wonder_ray.logs import actor as logs_actor
from wonder_ray.logs.actor import LogActor, RemoteSender, get_or_create, remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.logs.query import LogReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wonder_ray.logs.record import LogLine

NAMESPACE = "wonder-logs-test"


class FakeMethod:
    """`actor.write` of an actor that takes batches, or does not."""

    def __init__(self) -> None:
        self.batches: list[list[LogLine]] = []
        self.error: Exception | None = None

    def remote(self, data: bytes) -> int:
        from wonder_ray.logs.record import LogLine

        if self.error:
            raise self.error
        self.batches.append(msgspec.msgpack.decode(data, type=list[LogLine]))
        return len(self.batches) - 1


class FakeActor:
    def __init__(self) -> None:
        self.write = FakeMethod()


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> dict[int, Exception | None]:
    """What became of each batch; one that is not in here is still on its way."""
    found: dict[int, Exception | None] = {}

    def get(ref: int, timeout: float) -> int:
        if ref not in found:
            raise ray.exceptions.GetTimeoutError
        error = found[ref]
        if error:
            raise error
        return 1

    monkeypatch.setattr(ray, "get", get)
    return found


def test_a_missing_actor_costs_lines_that_are_reported_later(
    arrivals: dict[int, Exception | None], make_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_actor, "_LOOKUP_INTERVAL_S", 0.0)
    actor: FakeActor | None = None

    def find() -> FakeActor:
        if actor is None:
            raise ValueError("no such actor")
        return actor

    sender = RemoteSender(find)
    assert sender([make_line(1), make_line(2, service="http")]) is False
    assert sender.lost == {"executor": 1, "http": 1}
    actor = FakeActor()
    assert sender([make_line(3)]) is True
    (batch,) = actor.write.batches
    assert [line.event_type for line in batch] == ["stdout", "log_lines_dropped"]
    assert json.loads(batch[1].metadata or "")["by_service"] == {"executor": 1, "http": 1}
    assert sender([make_line(4)]) is True
    assert len(actor.write.batches[1]) == 1


def test_a_missing_actor_is_looked_for_once_a_second(make_line: Any) -> None:
    looked = []

    def find() -> FakeActor:
        looked.append(1)
        raise ValueError("no such actor")

    sender = RemoteSender(find)
    for _ in range(100):
        sender([make_line()])
    assert len(looked) <= 2
    assert sender.lost == {"executor": 100}


def test_batches_that_did_not_arrive_are_counted_and_the_actor_looked_up_again(
    arrivals: dict[int, Exception | None], make_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_actor, "_LOOKUP_INTERVAL_S", 0.0)
    actors: list[FakeActor] = []

    def find() -> FakeActor:
        actors.append(FakeActor())
        return actors[-1]

    sender = RemoteSender(find)
    sender([make_line(1)])
    sender([make_line(2)])
    assert sender.lost == {}
    arrivals.update({0: None, 1: RuntimeError("the actor died")})
    sender([make_line(3)])
    assert sender.lost == {"executor": 1}
    assert len(actors) == 2
    assert [line.event_type for line in actors[1].write.batches[0]] == ["stdout", "log_lines_dropped"]


def test_an_overloaded_actor_costs_the_batch(arrivals: dict[int, Exception | None], make_line: Any) -> None:
    actor = FakeActor()
    sender = RemoteSender(lambda: actor)
    actor.write.error = RuntimeError("PendingCallsLimitExceeded")
    assert sender([make_line(1)]) is False
    actor.write.error = None
    assert sender([make_line(2)]) is True
    assert sender.lost == {"executor": 1}


def test_lines_that_cannot_be_encoded_are_mended(arrivals: dict[int, Exception | None], make_line: Any) -> None:
    actor = FakeActor()
    assert RemoteSender(lambda: actor)([make_line(message="\ud800")]) is True
    assert actor.write.batches[0][0].message == "\\ud800"


def test_the_actor_takes_lines_and_their_encoded_form(storage: Path, make_line: Any) -> None:
    actor = LogActor(str(storage), "node1")
    assert actor.write([make_line(1)]) == 1
    assert actor.write(msgspec.msgpack.encode([make_line(2), make_line(3)])) == 2
    assert actor.flush()
    assert actor.stats().written == 3
    assert actor.ping()["storage"] == str(storage)
    assert actor.close()
    assert [line.timestamp for line in LogReader(storage).sql("TRUE")] == [1, 2, 3]


@pytest.fixture
def ray_actor(ray_cluster: Any, storage: Path) -> Iterator[Any]:
    actor = get_or_create(str(storage), namespace=NAMESPACE)
    yield actor
    with contextlib.suppress(ray.exceptions.RayActorError):
        ray.get(actor.close.remote())
    ray.kill(actor)


@pytest.mark.ray
def test_lines_reach_the_store_through_a_real_actor_that_may_be_killed(
    ray_actor: Any, storage: Path, wait_until: Any, make_line: Any
) -> None:
    sender = remote_sender(NAMESPACE)
    log = LogClient(sender, "executor")
    for n in range(1000):
        log.emit(make_line(n))
    assert log.flush()
    assert sender.settle()
    assert ray.get(ray_actor.flush.remote())
    reader = LogReader(storage)
    assert [line.timestamp for line in reader.sql("TRUE")] == list(range(1000))

    again = get_or_create("/elsewhere", namespace=NAMESPACE)  # the one that is there
    alive = ray.get(again.ping.remote())
    assert alive["storage"] == str(storage)
    os.kill(alive["pid"], signal.SIGKILL)

    def answers() -> bool:
        log.error("after_the_kill")
        assert log.flush()
        with contextlib.suppress(ray.exceptions.RayActorError):
            ray.get(ray_actor.flush.remote())
        return bool(reader.search(event_type="after_the_kill"))

    wait_until(answers, timeout=60, what="the restarted actor to store a line")
    assert len(reader.sql("event_type = 'stdout'")) == 1000
    assert log.close()
