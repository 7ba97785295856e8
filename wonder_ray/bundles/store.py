"""Where bundles lie: `<storage>/blobs/<aa>/<sha256>`, immutable files named by the hash of their content.

>>> import tempfile
>>> store = BundleStore(tempfile.mkdtemp())
>>> store.read(store.put(b"code"))
b'code'
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wonder_ray.bundles.archive import manifest_of
from wonder_ray.errors import CodeBundleError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.bundles.manifest import Manifest

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleStore:
    """The blobs of one storage folder.

    Args:
        storage: The storage folder, or a `file://` URI. (Bundles on an object store are not supported.)
        fetch: Asked for the content of a bundle that is not there, since this may not be the node with the folder.
    """

    def __init__(self, storage: str | Path, fetch: Callable[[str], bytes] | None = None) -> None:
        self._blobs = _folder(str(storage)) / "blobs"
        self._fetch = fetch

    def path(self, sha256: str) -> Path:
        """Where a blob lies or would lie; a `CodeBundleError` when that is no sha256."""
        if not _SHA256.fullmatch(sha256):
            raise CodeBundleError(f"{sha256[:80]!r} is not the sha256 of a bundle (64 hex digits)")
        return self._blobs / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Store the content durably, once, and return its sha256; a `StorageError` when that fails."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        try:
            if not _holds(path, sha256):
                _write(path, data)
        except OSError as error:
            raise StorageError(f"cannot write the code bundle {path}: {error}") from error
        return sha256

    def read(self, sha256: str) -> bytes:
        """The content; a `CodeBundleError` when it is missing, damaged or cannot be read."""
        path = self.path(sha256)
        try:
            data = self._fetch(sha256) if self._fetch is not None and not path.exists() else path.read_bytes()
        except OSError as error:
            raise CodeBundleError(
                f"code bundle {sha256[:12]} cannot be read at {path}: {error.strerror or error}; restore it, or start anew"
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CodeBundleError(f"code bundle {path} is damaged: its content has another sha256; restore it, or start anew")
        return data

    def manifest(self, sha256: str) -> Manifest | None:
        """What a stored bundle says about itself; None when it is not here, or is no bundle."""
        return manifest_of(self.path(sha256), sha256)


def _folder(storage: str) -> Path:
    if storage.startswith("file://"):
        return Path(storage.removeprefix("file://"))
    if "://" in storage:
        raise CodeBundleError(f"code bundles cannot be kept at {storage!r}: give a folder that every node can read")
    return Path(storage)


def _holds(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(0o644)  # mkstemp makes it private; executors may run as another user
        Path(aside).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(aside).unlink()
        raise
    for folder in (path.parent, path.parent.parent):  # the names are durable too
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
