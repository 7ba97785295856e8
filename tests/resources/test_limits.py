from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.clock import SimulatedClock
from wonder_ray.errors import RateLimitedError
from wonder_ray.resources.limits import limit_of, take
from wonder_ray.resources.master_key import MasterKeys
from wonder_ray.resources.service import ResourcesService
from wonder_ray.resources.store import ResourcesStore

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = MasterKeys([b"k" * 32])
ROOT = Path(__file__).parents[2]

REPLICA = """
import sys
from wonder_ray.clock import SimulatedClock
from wonder_ray.errors import RateLimitedError
from wonder_ray.resources.master_key import MasterKeys
from wonder_ray.resources.service import ResourcesService
service = ResourcesService(sys.argv[1], clock=SimulatedClock(), master_keys=lambda: MasterKeys([b"k" * 32]))
print("ready", flush=True)
sys.stdin.readline()
passed = 0
for _ in range(40):
    try:
        service.authorize(sys.argv[2])
        passed += 1
    except RateLimitedError:
        pass
print(passed, flush=True)
"""


@pytest.fixture
def service(place: str, clock: SimulatedClock) -> Iterator[ResourcesService]:
    service = ResourcesService(place, clock=clock, master_keys=lambda: KEYS)
    yield service
    service.close()


def passed(service: ResourcesService, token: str, tries: int = 50, cost: float = 1.0) -> int:
    """How many of so many requests get through."""
    count = 0
    for _ in range(tries):
        try:
            service.authorize(token, cost=cost)
        except RateLimitedError:
            continue
        count += 1
    return count


def test_a_key_may_make_its_burst_and_then_its_rate(service: ResourcesService, clock: SimulatedClock) -> None:
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=2, burst=10).token
    assert passed(service, token) == 10
    for seconds, more in ((0.5, 1), (0.4, 0), (0.1, 1), (3, 6), (3600, 10)):
        clock.advance(seconds=seconds)
        assert passed(service, token) == more, seconds


def test_the_first_request_that_is_too_much_says_when_to_come_back(service: ResourcesService, clock: SimulatedClock) -> None:
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=4).token
    rates = [service.authorize(token).rate for _ in range(4)]
    assert [rate.remaining for rate in rates if rate] == [3, 2, 1, 0]
    with pytest.raises(RateLimitedError, match="may make 4 a second") as caught:
        service.authorize(token)
    assert caught.value.retry_after_s == pytest.approx(0.25)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.retry_after_s, copy.limit, str(copy)) == (caught.value.retry_after_s, 4, str(caught.value))
    clock.advance(seconds=caught.value.retry_after_s)
    service.authorize(token)


def test_the_keys_of_a_workspace_share_its_limit_and_each_has_its_own(service: ResourcesService) -> None:
    service.update_workspace("default", rate_per_s=10)
    small, large = (service.create_api_key("ci", ("runs:read",), rate_per_s=rate).token for rate in (3, 100))
    assert passed(service, small) == 3
    assert passed(service, large) == 7
    service.create_workspace("other")
    elsewhere = service.create_api_key("ci", ("runs:read",), workspace_id="other").token
    assert passed(service, elsewhere) == 50


def test_a_request_that_one_limit_refuses_costs_nothing_at_the_others(service: ResourcesService, clock: SimulatedClock) -> None:
    service.update_workspace("default", rate_per_s=10)
    small = service.create_api_key("small", ("runs:read",), rate_per_s=1).token
    plain = service.create_api_key("plain", ("runs:read",)).token
    assert passed(service, small, tries=30) == 1
    assert passed(service, plain, tries=30) == 9
    clock.advance(seconds=0.5)
    assert passed(service, plain, tries=30) == 5


def test_a_limit_that_is_changed_or_taken_away_holds_at_once(service: ResourcesService) -> None:
    token = service.create_api_key("ci", ("runs:read",)).token
    service.update_workspace("default", rate_per_s=5)
    assert passed(service, token) == 5
    service.update_workspace("default", unlimited=True)
    assert passed(service, token) == 50


@pytest.mark.parametrize(("rate", "burst", "cost"), [(0, None, 1), (0, 0, 1), (5, 5, 6)])
def test_what_no_waiting_helps_is_told_to_come_back_much_later(
    service: ResourcesService, rate: float, burst: float | None, cost: float
) -> None:
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=rate, burst=burst).token
    passed(service, token, tries=1)
    with pytest.raises(RateLimitedError) as caught:
        service.authorize(token, cost=cost)
    assert caught.value.retry_after_s >= 3600


def test_a_request_may_cost_more_or_nothing(service: ResourcesService) -> None:
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=10).token
    assert passed(service, token, tries=5, cost=4) == 2
    assert passed(service, token, tries=5, cost=0) == 5
    assert passed(service, token, tries=5) == 2


def test_a_limit_holds_across_replicas(shared_place: str, clock: SimulatedClock) -> None:
    service = ResourcesService(shared_place, clock=clock, master_keys=lambda: KEYS)
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=1, burst=50).token
    command = [sys.executable, "-c", REPLICA, shared_place, token]
    replicas = [subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for replica in replicas:
        assert replica.stdout
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        assert replica.stdin
        replica.stdin.write("go\n")
        replica.stdin.flush()
    counts = [int(replica.communicate(timeout=100)[0]) for replica in replicas]
    assert sum(counts) == 50
    service.close()


def test_many_threads_share_a_limit(service: ResourcesService) -> None:
    token = service.create_api_key("ci", ("runs:read",), rate_per_s=1, burst=30).token
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(passed(service, token, tries=10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 30


@given(
    steps=st.lists(st.tuples(st.integers(0, 1), st.floats(-5, 5), st.floats(0, 3)), max_size=40),
    rate=st.floats(0.1, 10),
    burst=st.floats(1, 20),
)
def test_clocks_that_differ_and_jump_fill_no_bucket_twice(
    steps: list[tuple[int, float, float]], rate: float, burst: float
) -> None:
    """Two processes whose clocks differ: together they get no more than the burst and what the fastest clock has seen."""
    store = ResourcesStore(":memory:")
    clocks = [SimulatedClock(), SimulatedClock(1_700_000_003_000_000)]
    began_us = newest_us = clocks[0].now_us()
    limit = limit_of("key:1", rate, burst)
    spent = 0.0
    for who, seconds, cost in steps:
        clocks[who].advance(seconds=seconds)
        now_us = clocks[who].now_us()
        began_us, newest_us = min(began_us, now_us), max(newest_us, now_us)
        try:
            store._write("take", partial(take, limits=limit, cost=cost, now_us=now_us))
        except RateLimitedError:
            continue
        spent += cost
    assert spent <= limit[0].burst + (newest_us - began_us) / 1e6 * rate + 1e-6
    store.close()
