"""Where things lie, and what folders are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wonder_ray.errors import StorageError, WonderError
from wonder_ray.storage.filesystem import filesystem_of, refuse_network
from wonder_ray.storage.layout import Layout, default_storage

RUN_ID = "run_0192f0c1a2b3_0123456789abcdef"
MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/x /mnt/shared nfs4 rw 0 0
/dev/sdb /mnt/shared/local xfs rw 0 0
//box/c /mnt/with\\040space cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
server:/y /mnt/hidden nfs rw 0 0
tmpfs /mnt/hidden tmpfs rw 0 0
torn
"""


def test_every_path_lies_under_the_storage_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.run_file(RUN_ID) == tmp_path / "runs" / f"{RUN_ID}.sqlite"
    assert layout.lock_file(RUN_ID) == layout.run_file(RUN_ID).with_suffix(".lock")
    found = (layout.blobs, layout.events, layout.trace_events, layout.eventlog, layout.logs, layout.resources)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        *("blobs", "events", "trace_events", "eventlog", "logs", "resources.sqlite")
    ]


@pytest.mark.parametrize("hostile", ["", "..", "../x", "run_1", RUN_ID + "/..", RUN_ID + "\n", RUN_ID.upper(), "a\x00b", "run_*"])
def test_only_ids_the_system_made_become_file_names(tmp_path: Path, hostile: str) -> None:
    layout = Layout(tmp_path)
    for make in (layout.run_file, layout.lock_file):
        with pytest.raises(WonderError, match="not a run id"):
            make(hostile)


def test_preparing_makes_private_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a" / "b").prepare()
    layout.prepare()
    assert sorted(entry.name for entry in layout.root.iterdir()) == [
        "blobs",
        "eventlog",
        "events",
        "logs",
        "runs",
        "trace_events",
    ]
    for folder in (layout.root, layout.runs, layout.blobs, layout.events):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(layout.events.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"/file/x cannot be used: .*--storage or WONDER_STORAGE"):
        Layout(tmp_path / "file" / "x").prepare()


def test_a_folder_that_cannot_be_written_is_named_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "events")
    with pytest.raises(StorageError, match=r"/events cannot be used: .*--storage or WONDER_STORAGE"):
        Layout(tmp_path).prepare()


def test_the_default_storage_is_the_variable_then_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WONDER_STORAGE", raising=False)
    assert default_storage() == tmp_path / ".wonder" / "storage"
    monkeypatch.setenv("WONDER_STORAGE", "~/elsewhere")
    assert Layout().root == tmp_path / "elsewhere"
    assert Layout("~/x").root == tmp_path / "x"


def test_the_runs_of_a_folder_are_listed_oldest_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.run_ids() == []
    layout.prepare()
    ids = [f"run_{n:012x}_0123456789abcdef" for n in (3, 1, 2)]
    for run_id in ids:
        layout.run_file(run_id).touch()
        layout.lock_file(run_id).touch()
    layout.run_file(ids[0]).with_name(ids[0] + ".sqlite-wal").touch()
    (layout.runs / "notes.sqlite").touch()
    assert layout.run_ids() == sorted(ids)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", "ext4"),
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/a/b", "nfs4"),
        ("/mnt/shared/local/a", "xfs"),
        ("/mnt/sharedlocal", "ext4"),
        ("/mnt/with space/a", "cifs"),
        ("/mnt/hidden/a", "tmpfs"),
        ("/home/me/far", "fuse.sshfs"),
    ],
)
def test_the_filesystem_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("path", ["/mnt/shared", "/mnt/with space", "/home/me/far"])
def test_network_filesystems_are_refused(path: str) -> None:
    with pytest.raises(StorageError, match=r"network filesystem .*--storage or WONDER_STORAGE"):
        refuse_network(Path(path), MOUNTS)


def test_local_filesystems_and_unknown_mounts_are_accepted(tmp_path: Path) -> None:
    refuse_network(Path("/mnt/shared/local"), MOUNTS)
    refuse_network(tmp_path, "")
    refuse_network(tmp_path)
