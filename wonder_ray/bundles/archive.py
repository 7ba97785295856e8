"""Taking a bundle's archive apart: whatever is in it, only files of bounded size below one folder come out.

A bundle is named by its hash and made by `pack`, but who can write to the storage can put another one under its own name.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from wonder_ray.bundles.manifest import MANIFEST_NAME, Manifest, decode_manifest
from wonder_ray.bundles.tree import FILES_MAX
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXTRACTED_BYTES_MAX: Final = 256 * 1024 * 1024
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 1
_KINDS: Final = frozenset({0, stat.S_IFREG, stat.S_IFDIR})
_DAMAGES: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
"""What the library raises of archives that are none."""


def extract(data: bytes, folder: Path, sha256: str) -> None:
    """Write the files of an archive below a folder that is not there yet.

    Raises:
        CodeBundleError: It is no archive, has no manifest, or holds what no bundle does.
        OSError: A file cannot be written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check(infos, sha256)
            _manifest(archive, sha256)
            for info in infos:
                path = folder / info.filename
                if info.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as packed, path.open("xb") as file:
                        file.writelines(_chunks(packed))
    except _DAMAGES as error:
        raise CodeBundleError(f"code bundle {sha256[:12]} is no archive: {error or type(error).__name__}") from None


def manifest_of(path: Path, sha256: str) -> Manifest | None:
    """What an archive says about itself; None when it is not there, or is no bundle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _manifest(archive, sha256)
    except (FileNotFoundError, *_DAMAGES):
        return None


def _manifest(archive: zipfile.ZipFile, sha256: str) -> Manifest:
    info = archive.NameToInfo.get(MANIFEST_NAME)
    if info is None or info.file_size > MANIFEST_BYTES_MAX:
        raise zipfile.BadZipFile("it has no manifest" if info is None else "its manifest is too large")
    with archive.open(info) as packed:
        return decode_manifest(b"".join(_chunks(packed)), sha256)


def _chunks(packed: IO[bytes]) -> Iterator[bytes]:
    """Never more than was told in the directory of the archive, however much there is."""
    while chunk := packed.read(_CHUNK_BYTES):
        yield chunk


def _check(infos: list[zipfile.ZipInfo], sha256: str) -> None:
    where = f"code bundle {sha256[:12]}"
    if sum(info.file_size for info in infos) > EXTRACTED_BYTES_MAX or len(infos) > FILES_MAX + 1:
        raise CodeBundleError(
            f"{where} would take over {EXTRACTED_BYTES_MAX:,} bytes on disk, or over {FILES_MAX:,} files: refused"
        )
    seen = set[PurePosixPath]()
    for info in infos:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or not path.parts or _cut(info):
            raise CodeBundleError(f"{where} holds the path {info.filename[:80]!r}: refused")
        if path in seen:
            raise CodeBundleError(f"{where} holds {info.filename[:80]!r} twice: refused")
        seen.add(path)
        if stat.S_IFMT(info.external_attr >> 16) not in _KINDS:
            raise CodeBundleError(f"{where} holds {info.filename[:80]!r}, which is neither a file nor a folder: refused")
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise CodeBundleError(f"{where} holds {info.filename[:80]!r}, which is encrypted, or packed in no known way: refused")


def _cut(info: zipfile.ZipInfo) -> bool:
    """Whether the name goes on after a NUL, where the library cuts it."""
    return info.orig_filename != info.filename
