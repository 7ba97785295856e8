"""Work that may take too much, in a process of its own: what it uses is bounded, and nothing else is at stake.

>>> run_confined("wonder_ray.confined:echo", b"hello", Bounds(seconds=30, memory_bytes=2**30))
b'hello'
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import Final

import msgspec

from wonder_ray import errors
from wonder_ray.errors import QueryError, WonderError
from wonder_ray.values import decode, encode_trusted

STARTING_SECONDS: Final = 10.0
"""For the process to start, on a busy machine; it is no part of the work."""
NICENESS: Final = 10
_PROGRAM: Final = "from wonder_ray.confined import serve; serve()"
_SAID_CHARS: Final = 300


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What it may take.

    Attributes:
        seconds: From its beginning to its answer.
        memory_bytes: Of its own data (`RLIMIT_DATA`); Python and what it imports take about 200 MB.
    """

    seconds: float
    memory_bytes: int


def run_confined(entry: str, asked: bytes, bounds: Bounds) -> bytes:
    """What a function answers in a process of its own, which has none of this one's environment.

    Args:
        entry: `module:function`; it takes bytes and returns bytes.
        asked: What it is given.
        bounds: What it may take.

    Raises:
        WonderError: Whatever the function raises of these.
        QueryError: It takes too much time or memory, and was ended.
    """
    with tempfile.TemporaryDirectory(prefix="wonder-confined-") as folder:
        command = [sys.executable, "-c", _PROGRAM, entry, str(bounds.memory_bytes), str(round(bounds.seconds + STARTING_SECONDS))]
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": folder, "HOME": folder},
            cwd=folder,
            start_new_session=True,
        )
        try:
            told, said = process.communicate(asked, timeout=bounds.seconds + STARTING_SECONDS)
        except subprocess.TimeoutExpired:
            raise QueryError(f"it takes longer than {bounds.seconds:g} s, and was ended: ask for less") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return _answer(told, said, process.returncode, bounds)


def _answer(told: bytes, said: bytes, code: int, bounds: Bounds) -> bytes:
    head, found, body = told.partition(b"\n")
    if not found or code:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][-_SAID_CHARS:]
        raise QueryError(f"it was ended before it had an answer, for its time or its memory: ask for less ({last or code})")
    problem = decode(head)
    if problem is None:
        return body
    if problem["type"] == MemoryError.__name__:
        raise QueryError(f"it takes more than {bounds.memory_bytes >> 20} MB of memory: ask for less")
    kind = getattr(errors, problem["type"], WonderError)
    raise kind(problem["message"])


def echo(asked: bytes) -> bytes:
    """The same again."""
    return asked


def serve() -> None:
    """What the process does: `argv` names the function, and its bounds of memory and CPU time."""
    entry, memory, seconds = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))  # so that it ends when nobody is left to end it
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    os.nice(NICENESS)
    head: bytes = b"null"
    body = b""
    try:
        module, _, name = entry.partition(":")
        body = getattr(import_module(module), name)(sys.stdin.buffer.read())
    except WonderError as error:
        head = encode_trusted({"type": type(error).__name__, "message": str(error)})
    except MemoryError:
        head = encode_trusted({"type": MemoryError.__name__})
    sys.stdout.buffer.write(head + b"\n")
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
    os._exit(0)  # at once: what libraries do at the end may want memory, too
