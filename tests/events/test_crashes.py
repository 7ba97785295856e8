from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.events.crashes import CrashAt
from tests.events.histories import DAY_US, History, in_files, rows_of
from wonder_ray.errors import WonderError
from wonder_ray.events.layout import FAILPOINTS, EventLayout
from wonder_ray.events.query import EventReader
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.events.wire import EventBatch

SETTINGS = EventSettings(flush_interval_s=0.0, flush_rows=25)
HISTORIES = [History(1, length=40, starts=(1, 11)), History(2, length=30, step_us=DAY_US // 10), History(3, length=20)]
SENDER = 2


def batches_after(history: History, mark: int) -> Iterator[EventBatch]:
    for first in range(mark + 1, history.length + 1, 7):
        yield history.batch(first, min(first + 6, history.length), epoch=SENDER)


def leave_a_log_behind(storage: Path) -> None:
    """Instance 1 is dead, with rows of two runs in its log, some of them sealed."""
    service = EventService(storage, instance=1, settings=SETTINGS)
    for history in HISTORIES[:2]:
        service.submit([history.batch(1, 9, epoch=1)])
    service.flush()
    for history in HISTORIES[:2]:
        service.submit([history.batch(10, 10, epoch=1)])
    service.abandon()


def run_to_the_end(service: EventService) -> None:
    """What three senders do until all of their rows are sealed."""
    marks = {history.run: service.open(history.run, SENDER).mark for history in HISTORIES}
    for history in HISTORIES:
        for batch in batches_after(history, marks[history.run]):
            [ack] = service.submit([batch])
            assert (ack.outcome, ack.mark) == ("ok", batch.last)
    for history in HISTORIES:
        reply = service.flush(history.run)
        assert reply is not None
        assert (reply.mark, reply.sealed) == (history.length, history.length)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("name", FAILPOINTS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_between_two_steps_loses_and_doubles_nothing(storage: Path, name: str, nth: int) -> None:
    leave_a_log_behind(storage)
    crash = CrashAt(name, nth)
    service = EventService(storage, instance=2, settings=SETTINGS, failpoint=crash)
    try:
        run_to_the_end(service)
    except WonderError:
        assert crash.happened
    service.abandon()
    assert crash.happened or nth > 1
    everything = rows_of(*HISTORIES)
    assert set(in_files(storage)) <= set(everything)
    assert len(in_files(storage)) == len(set(in_files(storage)))
    with EventService(storage, instance=2, settings=SETTINGS) as successor:
        run_to_the_end(successor)
    assert in_files(storage) == everything
    layout = EventLayout(storage)
    assert list(layout.tmp_dir.iterdir()) == []
    assert [path.name for path in layout.logs()] == ["2.sqlite"]
    for history in HISTORIES:
        read = [row.sequence_number for row in EventReader(storage).read(history.run)]
        assert read == list(range(1, history.length + 1))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.events.histories import History
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService

def kill(name):
    if name == sys.argv[2] and acknowledged:
        os.kill(os.getpid(), signal.SIGKILL)

acknowledged = []
history = History(1, length=1000)
service = EventService(Path(sys.argv[1]), settings=EventSettings(flush_interval_s=0.0), failpoint=kill)
for first in range(1, 1000, 50):
    acknowledged += service.submit([history.batch(first, first + 49)])
    print(acknowledged[-1].mark, flush=True)
    if first == 451:
        service.flush_soon()
service.flush()
"""


@pytest.mark.parametrize(
    "name", ["append.after_commit", "plan.after_commit", "file.written", "file.renamed", "seal.after_commit"]
)
def test_what_a_killed_process_has_acknowledged_is_there(storage: Path, name: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(storage), name],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    acknowledged = int(process.stdout.split()[-1])
    history = History(1, length=1000)
    read = [row.sequence_number for row in EventReader(storage).read(history.run)]
    assert read == list(range(1, len(read) + 1))
    assert len(read) >= acknowledged
    with EventService(storage) as service:
        mark = service.open(history.run, 1).mark
        assert mark == len(read)
        if mark < 1000:
            service.submit([history.batch(mark + 1, 1000)])
    assert in_files(storage) == rows_of(history)
