from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.spec.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class NewWorld(Protocol):
    """The type of the `new_world` fixture."""

    def __call__(self, actions: Mapping[str, Callable[..., Any]] | None = None, **how: Any) -> World:
        """A world on the test's own storage folder; see `World`."""
        ...


@pytest.fixture
def new_world(storage: Path) -> Iterator[NewWorld]:
    made: list[World] = []

    def make(actions: Mapping[str, Callable[..., Any]] | None = None, **how: Any) -> World:
        made.append(World(storage, actions, **how))
        return made[-1]

    yield make
    for world in made:
        world.close()
