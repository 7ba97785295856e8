"""Which files of a user's folder are packed.

Of the folder of a lone file: the Python source in it and the packages in it (folders with an `__init__.py`); other subfolders
only when the code imports them, or when the folder is named as `root`. Of a package: all Python source, and other small files:
templates, prompts, schemas, SQL. Loose data files beside a script are left out, since a workflow may write its results there,
and every run would then be a new version; a package, or `data=` patterns, brings them in. Left out everywhere: hidden files,
virtual environments, caches, compiled code, archives, databases, notebooks and what looks like a key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wonder_ray.bundles.modules import is_installed_path
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

DATA_FILE_BYTES_MAX = 1024 * 1024
BUNDLE_BYTES_MAX = 50 * 1024 * 1024
FILES_MAX = 10_000
_FOLDERS_MAX = 20_000
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "virtualenv"})
_SUFFIXES = (
    ".pyc .pyo .so .pyd .dll .dylib .a .o .zip .tar .gz .xz .bz2 .zst .whl .egg .db .sqlite .sqlite3 .sqlite-wal .sqlite-shm "
    ".parquet .log .ipynb .pem .key .p12 .pfx .jks"
)
_SKIPPED_SUFFIXES = frozenset(_SUFFIXES.split())

Files = dict[str, bytes]
"""Path in the bundle (with `/`) -> content."""


def collect_folder(root: Path, *, base: Path, exclude: Collection[Path], data: Iterable[str] = (), is_deep: bool = True) -> Files:
    """The files of the folder `root`, under their paths relative to `base` (which goes on `sys.path`).

    Unless `is_deep`, of the folders in `root` only packages and those that a `data` pattern begins with are entered.
    """
    patterns = tuple(data)
    entered = None if is_deep else {pattern.partition("/")[0] for pattern in patterns if "/" in pattern}
    files: Files = {}
    for folder, in_package in _folders(root, base, {path.resolve() for path in exclude}, entered):
        for path in sorted(folder.iterdir()):
            if path.is_file() and _is_packed(path, path.relative_to(base), in_package=in_package, patterns=patterns):
                _add(files, path, path.relative_to(base).as_posix())
    return files


def read_file(path: Path, name: str) -> Files:
    """One file, under this path."""
    files: Files = {}
    _add(files, path, name)
    return files


def merge(parts: Iterable[Files]) -> Files:
    """All files together; a `CodeBundleError` when two roots hold different files of one name, or all are too large."""
    merged: Files = {}
    for part in parts:
        for name, content in part.items():
            if merged.setdefault(name, content) != content:
                raise CodeBundleError(
                    f"two folders of this workflow's code hold different files {name!r}; one bundle has one of each name: "
                    "rename one, or put the code into packages"
                )
    check_size(merged)
    return merged


def check_size(files: Files) -> None:
    """A `CodeBundleError` that names the largest files when there is too much."""
    total = sum(map(len, files.values()))
    if total > BUNDLE_BYTES_MAX or len(files) > FILES_MAX:
        largest = sorted(files, key=lambda name: len(files[name]), reverse=True)[:5]
        shown = ", ".join(f"{name} ({len(files[name]):,})" for name in largest)
        raise CodeBundleError(
            f"the code to pack has {total:,} bytes in {len(files):,} files; the limits are {BUNDLE_BYTES_MAX:,} bytes and "
            f"{FILES_MAX:,} files. Largest: {shown}. Put the workflow's file into a folder of its own, or name a root"
        )


def _folders(root: Path, base: Path, exclude: set[Path], entered: set[str] | None) -> Iterator[tuple[Path, bool]]:
    """Every folder to look into, and whether it lies in a package; directly in `root` only packages and `entered`, if given."""
    packages: set[Path] = set()
    for count, (name, subfolders, names) in enumerate(os.walk(root, onerror=_raise)):
        if count > _FOLDERS_MAX:
            raise CodeBundleError(
                f"{root} has more than {_FOLDERS_MAX:,} folders; put the workflow's file into a folder of its own"
            )
        folder = Path(name)
        if (folder != base and "__init__.py" in names) or folder.parent in packages:
            packages.add(folder)
        in_package = folder in packages
        subfolders[:] = sorted(sub for sub in subfolders if _is_walked(folder / sub, exclude, in_package=in_package))
        if folder == root and entered is not None:
            subfolders[:] = [sub for sub in subfolders if sub in entered or (folder / sub / "__init__.py").exists()]
        yield folder, in_package


def _is_walked(folder: Path, exclude: set[Path], *, in_package: bool) -> bool:
    name = folder.name
    return not (
        name.startswith(".")
        or name in _SKIPPED_FOLDERS
        or name.endswith(".egg-info")
        or not (in_package or name.isidentifier())
        or folder.is_symlink()
        or folder.resolve() in exclude
        or (folder / "pyvenv.cfg").exists()
        or (folder / "resources.sqlite").exists()  # a storage folder of ours
        or is_installed_path(folder.resolve())
    )


def _is_packed(path: Path, relative: Path, *, in_package: bool, patterns: tuple[str, ...]) -> bool:
    if path.suffix == ".py":
        return not path.name.startswith(".")
    if path.name.startswith(".") or path.suffix.lower() in _SKIPPED_SUFFIXES or path.stat().st_size > DATA_FILE_BYTES_MAX:
        return False
    return in_package or any(relative.match(pattern) for pattern in patterns)


def _add(files: Files, path: Path, name: str) -> None:
    try:
        files[name] = path.read_bytes()
    except OSError as error:
        raise CodeBundleError(f"cannot read {path} to pack it: {error}") from error


def _raise(error: OSError) -> None:
    raise CodeBundleError(f"cannot read {error.filename} to pack it: {error.strerror}; name a root without it") from error
