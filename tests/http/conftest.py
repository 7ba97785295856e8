from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.world import Api

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def api(storage: Path) -> Api:
    return Api(storage)
