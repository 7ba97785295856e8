"""Files: rotated by day and size, never shared, never overwritten, sound after a crash."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wonder_ray.errors import DefinitionError, StorageError
from wonder_ray.logs.files import list_files, refuse_wal_bug, utc_date
from wonder_ray.logs.store import LogStore

if TYPE_CHECKING:
    from wonder_ray.logs.record import LogLine

DAY_US = 86_400_000_000


def names(folder: Path) -> list[str]:
    return [Path(file.path).name for file in list_files(folder)]


def count(path: Path) -> int:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return int(connection.execute("SELECT count(*) FROM logs").get)


def test_a_new_day_begins_a_new_file(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "node-1")
    for day in (0, 0, 1, 2):
        store.append([make_line()], day * DAY_US)
    store.close()
    assert names(tmp_path) == [f"node-1-1970-01-0{day}-1.sqlite" for day in (1, 2, 3)]
    assert [count(Path(file.path)) for file in list_files(tmp_path)] == [2, 1, 1]


def test_a_clock_that_goes_back_over_midnight_makes_no_crowd_of_files(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    for day in (0, 1) * 10:
        store.append([make_line()], day * DAY_US)
    store.close()
    assert len(names(tmp_path)) == 2


def test_a_full_file_is_followed_by_the_next_number(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a", file_bytes_max=100_000)
    batch = [make_line(message="x" * 1000) for _ in range(50)]
    for _ in range(12):
        store.append(batch, 0)
    store.close()
    files = list_files(tmp_path)
    assert [file.n for file in files] == list(range(1, len(files) + 1))
    assert len(files) > 3
    assert sum(count(Path(file.path)) for file in files) == 600
    assert all(Path(file.path).stat().st_size < 250_000 for file in files)


def test_a_restart_goes_on_in_the_file_that_has_room(tmp_path: Path, make_line: Any) -> None:
    for _ in range(5):
        store = LogStore(tmp_path, "a")
        store.append([make_line()], 0)
        store.close()
    assert names(tmp_path) == ["a-1970-01-01-1.sqlite"]
    assert count(tmp_path / "a-1970-01-01-1.sqlite") == 5


def test_finished_files_are_single_files(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)
    assert (tmp_path / "a-1970-01-01-1.sqlite-wal").exists()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1970-01-01-1.sqlite", "a.lock"]


@pytest.mark.parametrize("content", [b"no database at all" * 1000, b""])
def test_a_torn_file_is_left_alone(tmp_path: Path, make_line: Any, content: bytes) -> None:
    torn = tmp_path / "a-1970-01-01-1.sqlite"
    torn.write_bytes(content)
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)
    store.close()
    if content:
        assert torn.read_bytes() == content
        assert names(tmp_path)[-1] == "a-1970-01-01-2.sqlite"
    else:  # an empty file is one whose making was interrupted
        assert names(tmp_path) == ["a-1970-01-01-1.sqlite"]


def test_a_file_with_a_flipped_page_is_not_continued(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    store.append([make_line(n) for n in range(2000)], 0)
    store.close()
    path = tmp_path / "a-1970-01-01-1.sqlite"
    data = bytearray(path.read_bytes())
    for at in range(8192, len(data) - 4096, 4096):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    store.append([make_line()], 0)
    store.close()
    assert names(tmp_path)[-1] == "a-1970-01-01-2.sqlite"


def test_a_file_of_a_later_format_is_left_alone(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)
    store.close()
    with closing(apsw.Connection(str(tmp_path / "a-1970-01-01-1.sqlite"))) as connection:
        connection.pragma("user_version", 99)
    store.append([make_line()], 0)
    store.close()
    assert names(tmp_path)[-1] == "a-1970-01-01-2.sqlite"


def test_two_stores_of_one_instance_do_not_share_a_file(tmp_path: Path, make_line: Any) -> None:
    one, other = LogStore(tmp_path, "a"), LogStore(tmp_path, "a")
    one.append([make_line()], 0)
    other.append([make_line()], 0)
    assert names(tmp_path) == ["a-1970-01-01-1.sqlite", "a.2-1970-01-01-1.sqlite"]
    one.close()
    again = LogStore(tmp_path, "a")
    again.append([make_line()], 0)
    assert again.path == str(tmp_path / "a-1970-01-01-1.sqlite")
    again.close()
    other.close()


CHILD = """
import sys
from pathlib import Path
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
store = LogStore(Path(sys.argv[1]), "a")
line = LogLine(timestamp=0, level="info", service="http", event_type="child")
store.append([line] * 10, 0)
print(store.path, flush=True)
sys.stdin.read()
"""


def test_two_processes_of_one_instance_do_not_share_a_file_and_a_killed_one_loses_nothing(tmp_path: Path, make_line: Any) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        path = Path(child.stdout.readline().decode().strip())
        store = LogStore(tmp_path, "a")
        store.append([make_line()], 0)
        assert store.path != str(path)
        store.close()
        child.kill()
    assert count(path) == 10
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)  # the dead process's file, and its write-ahead log with it
    assert store.path == str(path)
    store.close()
    assert count(path) == 11


def test_a_removed_file_is_noticed_and_replaced(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StorageError, match="was removed"):
        store.append([make_line()], 0)
    store.close()
    store.append([make_line(), make_line()], 0)
    store.close()
    assert count(tmp_path / "a-1970-01-01-1.sqlite") == 2


def test_a_batch_is_written_whole_or_not_at_all_on_a_full_disk(tmp_path: Path, make_line: Any, faulty_disk: Any) -> None:
    store = LogStore(tmp_path, "a", vfs=faulty_disk.name)
    store.append([make_line()], 0)
    faulty_disk.full = True
    with pytest.raises(apsw.FullError):
        store.append([make_line(n) for n in range(500)], 0)
    store.close()
    faulty_disk.full = False
    store.append([make_line(n) for n in range(500)], 0)
    store.close()
    assert count(tmp_path / "a-1970-01-01-1.sqlite") == 501


def test_a_line_that_no_table_can_hold_costs_only_itself(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    bad: list[LogLine] = [
        make_line(timestamp=None),
        make_line(timestamp=2**70),
        make_line(metadata="{no json"),
        make_line(message="\ud800"),
        make_line(message=object()),
    ]
    assert store.append([make_line(), *bad, make_line()], 0) == len(bad)
    store.close()
    assert count(tmp_path / "a-1970-01-01-1.sqlite") == 2


def test_settings_are_the_promised_ones(tmp_path: Path, make_line: Any) -> None:
    store = LogStore(tmp_path, "a")
    store.append([make_line()], 0)
    assert store._file is not None
    connection = store._file._connection
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 1  # NORMAL
    store.close()


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 200])
def test_hostile_instance_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DefinitionError):
        LogStore(tmp_path, name)


@pytest.mark.parametrize(("version", "affected"), [("3.6.23", False), ("3.7.0", True), ("3.51.2", True), ("3.51.3", False)])
def test_sqlite_versions_with_the_wal_bug_are_refused(version: str, affected: bool) -> None:
    if affected:
        with pytest.raises(StorageError, match="WAL"):
            refuse_wal_bug(version)
    else:
        refuse_wal_bug(version)


def test_other_files_in_the_folder_are_not_log_files(tmp_path: Path) -> None:
    for name in ("archive", "a.lock", "a-2023-11-14-1.sqlite-wal", "a-2023-11-14.sqlite", "x-2023-11-14-2.sqlite"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["x-2023-11-14-2.sqlite"]
    assert list_files(tmp_path / "nowhere") == []


@settings(max_examples=20)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 2), st.booleans()), max_size=10),
    file_bytes_max=st.sampled_from([1, 60_000, 10**9]),
)
def test_no_line_is_lost_or_doubled_over_rotations_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, make_line: Any, steps: list[tuple[int, int, bool]], file_bytes_max: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    store = LogStore(folder, "a", file_bytes_max=file_bytes_max)
    now_us, written = 10 * DAY_US, 0
    for lines, days, restart in steps:
        now_us += days * DAY_US
        store.append([make_line(written + n) for n in range(lines)], now_us)
        written += lines
        if restart:
            store.close()
        assert store.path is None or utc_date(now_us) in store.path
    store.close()
    found: list[int] = []
    for file in list_files(folder):
        with closing(apsw.Connection(file.path)) as connection:
            found += [n for (n,) in connection.execute("SELECT timestamp FROM logs")]
    assert sorted(found) == list(range(written))
