"""Work in a process of its own: its answer, its errors, and its end where it takes too much."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wonder_ray import confined
from wonder_ray.confined import Bounds, run_confined
from wonder_ray.errors import QueryError, RunNotFoundError
from wonder_ray.values import decode, encode_trusted

BOUNDS = Bounds(seconds=20, memory_bytes=256 << 20)


def surroundings(_asked: bytes) -> bytes:
    return encode_trusted({"pid": os.getpid(), "environment": sorted(os.environ), "folder": str(Path.cwd()), "nice": os.nice(0)})


def refuse(asked: bytes) -> bytes:
    raise RunNotFoundError(asked.decode())


def devour(asked: bytes) -> bytes:
    return bytes(int(asked))


def hang(_asked: bytes) -> bytes:
    while True:
        pass


def die(_asked: bytes) -> bytes:
    os.abort()


def ask(function: str, asked: bytes = b"", bounds: Bounds = BOUNDS) -> bytes:
    return run_confined(f"{__name__}:{function}", asked, bounds)


def test_it_answers_in_a_process_of_its_own_that_has_no_part_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WONDER_MASTER_KEY", "secret")
    found = decode(ask("surroundings"))
    assert found["pid"] != os.getpid()
    assert set(found["environment"]) <= {"PYTHONPATH", "TMPDIR", "HOME", "LC_CTYPE"}
    assert (Path(found["folder"]).exists(), found["nice"] >= 10) == (False, True)


def test_its_errors_arrive_as_themselves() -> None:
    with pytest.raises(RunNotFoundError, match="no run 'x'"):
        ask("refuse", b"no run 'x'")


def test_what_takes_too_much_memory_is_ended() -> None:
    assert len(ask("devour", b"1000000")) == 1_000_000
    with pytest.raises(QueryError, match="256 MB of memory"):
        ask("devour", b"1000000000")


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "STARTING_SECONDS", 0.5)
    with pytest.raises(QueryError, match="longer than 0"):
        ask("hang", bounds=Bounds(seconds=0.5, memory_bytes=256 << 20))


@pytest.mark.parametrize("function", ["die", "nobody"])
def test_one_that_dies_is_told_of(function: str) -> None:
    with pytest.raises(QueryError, match="before it had an answer"):
        ask(function)
