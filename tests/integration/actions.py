"""What the workflows of these tests run, in executor processes. Files tell the tests what has happened where."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wonder_ray.errors import ActionError
from wonder_ray.executor.context import current, report_usage

if TYPE_CHECKING:
    from wonder_ray.executor.secrets import Secret

POLL_SECONDS = 0.02


def note(ledger: str) -> None:
    """One line per execution, outside the system: a token and its attempt."""
    where = current()
    line = f"{where.node_id} {where.token_id} {where.attempt} {where.epoch} {os.getpid()}\n"
    handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def spread(n: int) -> list[int]:
    """The items of a fan-out."""
    return list(range(n))


def square(n: int) -> int:
    """A quick step."""
    return n * n


def add(a: int, b: int = 1) -> int:
    """Another quick step."""
    return a + b


def noted_square(n: int, ledger: str, seconds: float = 0.0) -> int:
    """A step that leaves a line, and takes its time."""
    note(ledger)
    if seconds:
        time.sleep(seconds)
    return n * n


def wait_for(path: str, ledger: str | None = None) -> str:
    """Goes on once the file is there."""
    if ledger:
        note(ledger)
    while not Path(path).exists():
        time.sleep(POLL_SECONDS)
    return path


def sleep_for(seconds: float, ledger: str) -> float:
    """Sleeps in one piece, as C code does: only force ends it."""
    note(ledger)
    time.sleep(seconds)
    return seconds


def loop_for(seconds: float, ledger: str) -> float:
    """Sleeps in small pieces, as Python code does: an interrupt ends it."""
    note(ledger)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return seconds


def finish_late(ledger: str, seconds: float) -> str:
    """Will not be interrupted, and returns after its time."""
    note(ledger)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            continue
    return "late"


def raise_value_error(n: int = 0) -> None:
    """An error of user code."""
    raise ValueError(f"{n} is no good")


def noted_failure(ledger: str) -> None:
    """An error of user code that leaves a line."""
    note(ledger)
    raise ValueError("not yet")


def fail_until(attempts: int) -> int:
    """Succeeds with the given attempt."""
    attempt = current().attempt
    if attempt < attempts:
        raise ActionError("NotYet", f"attempt {attempt}")
    return attempt


def return_object() -> object:
    """What is no JSON."""
    return {"when": object()}


def die(n: int = 0) -> None:
    """Takes the worker process along."""
    os._exit(3 + n % 2)


def die_at(n: int, bad: int, ledger: str) -> int:
    """One bad item among good ones."""
    note(ledger)
    if n == bad:
        os._exit(3)
    return n


def print_much(megabytes: int) -> int:
    """More output than anybody reads."""
    line = "x" * 1023
    for _ in range(megabytes):
        for _ in range(1024):
            print(line)  # noqa: T201 - it is the point
    return megabytes


def chatter(word: str) -> str:
    """Output of every kind."""
    import logging
    import sys

    print(f"printed {word}")  # noqa: T201 - it is the point
    print(f"to stderr {word}", file=sys.stderr)  # noqa: T201 - as above
    logging.getLogger("user").warning("logged %s", word)
    return word


def spend(tokens: int) -> dict[str, Any]:
    """Reports what it has used."""
    report_usage(tokens=tokens, cost_usd=0.25)
    return {"tokens": tokens}


async def fetch(n: int) -> int:
    """An async action."""
    await asyncio.sleep(0.01)
    return n + 1


def process(n: int) -> int:
    """Which process runs this."""
    return os.getpid() if n >= 0 else 0


def use_secret(key: Secret) -> dict[str, Any]:
    """Show a secret wherever an action can."""
    value = key.reveal()
    print("the key is", value)  # noqa: T201 - as actions do
    return {"length": len(value), "plain": value, "inside": f"Bearer {value}!"}


def fail_with_secret(key: Secret) -> None:
    """Fail with a secret in the message."""
    raise RuntimeError(f"{key.reveal()} was refused")
