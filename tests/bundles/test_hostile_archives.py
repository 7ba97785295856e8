"""Archives that would fill a disk, write elsewhere or be something else: refused before anything of them lies on the disk."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from wonder_ray.bundles.imports import ImportSpace
from wonder_ray.bundles.loader import BundleLoader
from wonder_ray.bundles.manifest import MANIFEST_NAME
from wonder_ray.bundles.store import BundleStore
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Callable

MB: Final = 1024 * 1024
PEAK_KB_MAX: Final = 48 * 1024


def archive(*entries: tuple[str | zipfile.ZipInfo, bytes], manifest: bytes | None = b"{}") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries if manifest is None else (*entries, (MANIFEST_NAME, manifest)):
            file.writestr(name, content)
    return data.getvalue()


def special(name: str, kind: int, content: bytes = b"") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info, content


def lying(size: int, told: int) -> bytes:
    """Its directory says that the file is small; what it holds is not."""
    data = bytearray(archive(("big.py", bytes(size))))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark)
        data[place + at : place + at + 4] = struct.pack("<I", told)
    return bytes(data)


def many(count: int) -> bytes:
    return archive(*((f"f{number}.py", b"") for number in range(count)))


def wrong_sum() -> bytes:
    data = bytearray(archive(("a.py", b"x = 1\n")))
    for mark, at in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        place = data.index(mark)
        data[place + at : place + at + 4] = struct.pack("<I", zlib.crc32(b"x = 2\n"))
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(archive(("a.py", b"x = 1\n")))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    return bytes(data)


def unknown_method() -> bytes:
    data = bytearray(archive(("a.py", b"x = 1\n")))
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.index(mark) + at
        data[place : place + 2] = struct.pack("<H", 97)
    return bytes(data)


HOSTILE: Final[dict[str, Callable[[], bytes]]] = {
    "many zeros": lambda: archive(*((f"big{n}.py", bytes(64 * MB)) for n in range(5))),
    "a file that is larger than it says": lambda: lying(64 * MB, 10),
    "ten thousand and more files": lambda: many(10_001),
    "a parent": lambda: archive(("../escaped.py", b"")),
    "a parent below": lambda: archive(("a/../../escaped.py", b"")),
    "an absolute path": lambda: archive(("/tmp/escaped.py", b"")),
    "a path with a NUL": lambda: _renamed(b"a.py", b"a\0py"),
    "a path of Windows": lambda: archive(("..\\escaped.py", b"")),
    "a drive of Windows": lambda: archive(("C:\\escaped.py", b"")),
    "a symlink": lambda: archive(special("link.py", stat.S_IFLNK, b"/etc/passwd")),
    "a symlink and a file in it": lambda: archive(special("sub", stat.S_IFLNK, b"/tmp"), ("sub/escaped.py", b"")),
    "a character device": lambda: archive(special("null.py", stat.S_IFCHR)),
    "a block device": lambda: archive(special("disk.py", stat.S_IFBLK)),
    "a pipe": lambda: archive(special("pipe.py", stat.S_IFIFO)),
    "a socket": lambda: archive(special("socket.py", stat.S_IFSOCK)),
    "a name twice": lambda: _twice("a.py", "a.py"),
    "a name twice, in another way": lambda: _twice("a.py", "./a.py"),
    "a second manifest": lambda: _twice(MANIFEST_NAME, MANIFEST_NAME),
    "a file that is a folder, too": lambda: archive(("a", b"x"), ("a/b.py", b"")),
    "the folder itself": lambda: archive((".", b"x")),
    "a name that no file may have": lambda: archive(("n" * 300 + ".py", b"")),
    "a path that is too deep": lambda: archive(("/".join(["d" * 200] * 60) + "/a.py", b"")),
    "content that is not what it says": wrong_sum,
    "a password": encrypted,
    "a method that nobody knows": unknown_method,
    "nothing after its head": lambda: archive(("a.py", os.urandom(1000)))[:500],
    "no manifest": lambda: archive(manifest=None),
    "a manifest that is none": lambda: archive(manifest=b"[]"),
    "a manifest of another time": lambda: archive(manifest=b'{"format":99}'),
    "no archive": lambda: b"no archive",
    "nothing": lambda: b"",
}


def _renamed(name: bytes, other: bytes) -> bytes:
    return archive((name.decode(), b"x = 1")).replace(name, other)


def _twice(first: str, second: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file, pytest.MonkeyPatch.context() as quiet:
        quiet.setattr("warnings.warn", lambda *_, **__: None)
        file.writestr(first, b"{}")
        file.writestr(second, b"{}")
        if MANIFEST_NAME not in {first, second}:
            file.writestr(MANIFEST_NAME, b"{}")
    return data.getvalue()


def load(folder: Path, data: bytes) -> None:
    cache = folder / "cache"
    BundleLoader(folder, cache_folder=cache, space=ImportSpace()).load(BundleStore(folder).put(data))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(kind: str, storage: Path) -> None:
    with pytest.raises(CodeBundleError, match=r"^(code )?bundle [0-9a-f]{12}"):
        load(storage, HOSTILE[kind]())
    assert [*(storage / "cache").iterdir()] == []
    assert not Path("/tmp/escaped.py").exists()
    assert [*storage.parent.rglob("escaped.py")] == []


def test_a_folder_s_own_entry_is_none_of_these(storage: Path) -> None:
    load(storage, archive(("pkg/", b""), ("pkg/__init__.py", b"")))
    assert len([*(storage / "cache").rglob("__init__.py")]) == 1


MEASURED: Final = """
import resource, sys
from pathlib import Path
from tests.bundles.test_hostile_archives import HOSTILE, archive, load
from wonder_ray.errors import CodeBundleError

folder = Path(sys.argv[1])
load(folder, archive(("a.py", b"x = 1")))
for number, path in enumerate(sys.argv[2:]):
    data = Path(path).read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load(folder, data)
    except CodeBundleError:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    bombs = [tmp_path / name for name in ("zeros", "liar")]
    bombs[0].write_bytes(HOSTILE["many zeros"]())
    bombs[1].write_bytes(lying(128 * MB, 10))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "storage"), *map(str, bombs)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == len(bombs), done.stderr
    assert max(peaks) < PEAK_KB_MAX, peaks
