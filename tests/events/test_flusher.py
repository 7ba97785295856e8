"""When rows are put into files, and when they are left to wait for more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from wonder_ray.events.flusher import Flusher
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.sealing import EventSettings, Sealed

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 30.0


class Noted:
    """A sealer and an adopter that note what they are asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.adopted = threading.Event()

    def recover(self) -> Sealed:
        self.asked.append("recover")
        return Sealed(0, 0)

    def seal_all(self) -> Sealed:
        self.asked.append("all")
        return Sealed(5, 100)

    def seal_oldest(self) -> Sealed:
        self.asked.append("oldest")
        return Sealed(5, 100)

    def adopt_all(self) -> list[str]:
        self.adopted.set()
        return []


def first_round(storage: Path, *, left: tuple[int, int], rows: int, settings: EventSettings) -> list[str]:
    """What a flusher does when it starts, with rows that a crash has left, and some that came since."""
    noted = cast("Any", Noted())
    flusher = Flusher(EventLayout(storage), noted, noted, lambda _: cast("Any", None), settings, left)
    if rows:
        flusher.note_rows(rows, 100)
    flusher.start()
    assert noted.adopted.wait(PATIENCE_S)
    flusher.stop(flush=False)
    asked: list[str] = noted.asked
    return asked


def test_looking_for_dead_neighbours_makes_no_small_files(storage: Path) -> None:
    assert first_round(storage, left=(0, 0), rows=5, settings=EventSettings()) == ["recover"]


def test_what_a_crash_has_left_is_put_into_files_at_once(storage: Path) -> None:
    assert first_round(storage, left=(5, 100), rows=0, settings=EventSettings()) == ["recover", "all"]


def test_enough_for_a_file_becomes_one(storage: Path) -> None:
    assert first_round(storage, left=(0, 0), rows=5, settings=EventSettings(flush_rows=5)) == ["recover", "oldest"]
