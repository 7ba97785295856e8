"""Other processes on the same registry: racing, killed, reading."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wonder_ray.errors import RunNotFoundError, StorageError
from wonder_ray.resources.reader import ResourcesReader
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.store import ResourcesStore

ROOT = Path(__file__).parents[2]

RACE = """
import sys
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.store import ResourcesStore
store = ResourcesStore(sys.argv[1])
store.put_definition(b'{"name":"crawl","nodes":[]}')
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    run, created = store.create_run(StartRequest(workflow_name="crawl", key=f"k{i}"))
    print(f"k{i}", run.run_id, int(created), store.take_epoch(run.run_id, 0, None), flush=True)
"""

SUCCEED = """
import sys
from wonder_ray.errors import StaleEpochError
from wonder_ray.resources.store import ResourcesStore
store = ResourcesStore(sys.argv[1])
run = store.find_run("contested")
print("ready", flush=True)
sys.stdin.readline()
for epoch in range(40):
    while store.get_run(run.run_id).epoch < epoch:
        pass
    try:
        print(store.take_epoch(run.run_id, 0, {"by": sys.argv[1]}, expected=epoch), flush=True)
    except StaleEpochError:
        pass
"""

ENDLESS = RACE.replace("range(40)", "__import__('itertools').count()")

# A transaction that has spilled to the file when its process dies: its journal must be rolled back by whoever comes next.
HOT_JOURNAL = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma cache_size = 1")
connection.execute("pragma cache_spill = 1")
connection.execute("begin immediate")
connection.execute("update runs set status = 'completed'")
for i in range(500):
    connection.execute("insert into service_epochs values (?, 1)", (str(i) * 100,))
os.kill(os.getpid(), signal.SIGKILL)
"""


def spawn(script: str, place: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, place]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def begin(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()


def test_two_processes_with_the_same_keys_make_each_run_once(tmp_path: Path, shared_place: str) -> None:
    both = [spawn(RACE, shared_place), spawn(RACE, shared_place)]  # they also make the tables at the same time
    begin(both)
    lines = [line.split() for process in both for line in process.communicate(timeout=60)[0].splitlines()]
    assert len(lines) == 80
    assert len({run_id for _, run_id, _, _ in lines}) == len({key for key, *_ in lines}) == 40
    assert sum(int(created) for _, _, created, _ in lines) == 40
    assert sorted(int(epoch) for *_, epoch in lines) == [1] * 40 + [2] * 40
    with ResourcesReader(tmp_path, shared_place) as reader:
        assert len(reader.list_runs(limit=1000).runs) == 40


def test_of_two_processes_that_expect_an_epoch_one_gets_the_next(shared_place: str) -> None:
    store = ResourcesStore(shared_place)
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    run, _ = store.create_run(StartRequest(workflow_name="crawl", key="contested"))
    both = [spawn(SUCCEED, shared_place), spawn(SUCCEED, shared_place)]
    begin(both)
    taken = [[int(line) for line in process.communicate(timeout=60)[0].splitlines()] for process in both]
    assert sorted(taken[0] + taken[1]) == list(range(1, 41))
    assert store.get_run(run.run_id).epoch == 40
    store.close()


def test_what_was_acknowledged_before_a_kill_is_there(shared_place: str) -> None:
    acknowledged: list[list[str]] = []
    for _ in range(3):
        process = spawn(ENDLESS, shared_place)
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        acknowledged += [process.stdout.readline().split() for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [fields for line in process.communicate()[0].splitlines() if len(fields := line.split()) == 4]
    store = ResourcesStore(shared_place)
    newest: dict[str, int] = {}
    for key, run_id, _created, epoch in acknowledged:
        found = store.find_run(key)
        assert found is not None
        assert found.run_id == run_id
        assert int(epoch) > newest.get(run_id, 0)
        newest[run_id] = int(epoch)
    assert all(store.get_run(run_id).epoch >= epoch for run_id, epoch in newest.items())
    store.close()


def test_a_reader_recovers_from_a_writer_that_was_killed_half_way(tmp_path: Path) -> None:
    store = ResourcesStore(tmp_path / "resources.sqlite")
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    for i in range(300):
        store.create_run(StartRequest(workflow_name="crawl", key=f"k{i}", input=b'"' + b"x" * 200 + b'"'))
    store.close()
    assert spawn(HOT_JOURNAL, str(tmp_path / "resources.sqlite")).wait() == -signal.SIGKILL
    assert (tmp_path / "resources.sqlite-journal").stat().st_size > 0
    with ResourcesReader(tmp_path) as reader:
        assert len(reader.unfinished()) == 300
    assert not (tmp_path / "resources.sqlite-journal").exists()
    assert ResourcesStore(tmp_path / "resources.sqlite").take_service_epoch("0" * 100) == 1


def test_a_reader_sees_what_a_live_store_writes_and_cannot_write(tmp_path: Path, shared_place: str) -> None:
    store = ResourcesStore(shared_place)
    store.put_definition(b'{"name":"crawl","nodes":[]}')
    with ResourcesReader(tmp_path, shared_place) as reader:
        with pytest.raises(RunNotFoundError):
            reader.resolve_run("latest")
        run, _ = store.create_run(StartRequest(workflow_name="crawl"))
        assert reader.resolve_run("latest") == run
        with pytest.raises(StorageError, match=r"read-?only"):
            reader._read("try", lambda connection: connection.exec_driver_sql("delete from runs"))
    store.close()


def test_a_reader_of_an_empty_folder_says_so_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing was ever started"):
        ResourcesReader(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_records_cost_no_sql() -> None:
    script = (
        "import sys, wonder_ray.resources.records as r; print([m for m in ('sqlmodel', 'sqlalchemy', 'ray') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "[]\n"
