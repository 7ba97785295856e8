"""The Ray that runs on this host, from the process table: what it listens on and whether it asks for a token. Never imports Ray.

>>> [found.kind for found in ray_processes(Path("/nonexistent"))]
[]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC: Final = Path("/proc")
GCS: Final = "gcs_server"
DASHBOARD: Final = "dashboard"
_FILES: Final = {"gcs_server": GCS, "dashboard.py": DASHBOARD}
_PARTS_LOOKED_AT: Final = 4
"""The program is among the first words of its command line."""
_MODE: Final = "RAY_AUTH_MODE="


class RayProcess(NamedTuple):
    """A server of a Ray."""

    kind: str
    """`gcs_server` (the head's), or `dashboard`."""
    pid: int
    options: dict[str, str]
    """What its command line says: `{"host": "127.0.0.1", ...}`."""
    auth_mode: str | None
    """`token`, `disabled`, `unset`; None where its environment cannot be read: it is another user's."""

    @property
    def address(self) -> str:
        """Where it was told to listen."""
        return f"{self.options.get('host', '?')}:{self.options.get('port', '?')}"


def ray_processes(proc: Path | None = None) -> list[RayProcess]:
    """All of this host, in order of their ids; what cannot be looked at is left out."""
    folder = PROC if proc is None else proc
    try:
        pids = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
    except OSError:
        return []
    return [found for pid in pids for found in _look(folder / str(pid), pid)]


def _look(place: Path, pid: int) -> Iterator[RayProcess]:
    words = _words(place / "cmdline")
    kind = next((_FILES[name] for word in (words or [])[:_PARTS_LOOKED_AT] if (name := _file_of_ray(word)) in _FILES), None)
    if kind is None or words is None:
        return
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    yield RayProcess(kind, pid, {name: value for name, _, value in pairs}, _auth_mode(place / "environ"))


def _file_of_ray(word: str) -> str:
    """The name of a program, where it is one of an installed Ray."""
    path = Path(word)
    return path.name if "ray" in path.parts else ""


def _auth_mode(path: Path) -> str | None:
    words = _words(path)
    if words is None:
        return None
    return next((word.removeprefix(_MODE).lower() for word in words if word.startswith(_MODE)), "unset")


def _words(path: Path) -> list[str] | None:
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return None
