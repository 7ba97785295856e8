"""One prepared storage for all commands that only read, and a way to call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest
from typer.testing import CliRunner

from tests.cli.prepared import Prepared, prepare
from wonder_ray.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result


class Called(msgspec.Struct):
    """What a command has done."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout."""
        return msgspec.json.decode(self.out.splitlines()[-1])

    @property
    def lines(self) -> list[Any]:
        """Every line of stdout, decoded."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


class Call(Protocol):
    """The type of the `wonder` fixture."""

    def __call__(self, *args: object, stdin: str | None = None) -> Called:
        """Run a command."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Made once; not to be changed."""
    return prepare(tmp_path_factory.mktemp("prepared"))


def invoke(*args: object, stdin: str | None = None) -> Called:
    """Run a command in this process."""
    result: Result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)  # type: ignore[assignment] # one or the other click
    return Called(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def wonder() -> Call:
    """Calls a command: `wonder("runs", "--storage", folder)`."""
    return invoke


@pytest.fixture
def look(prepared: Prepared) -> Call:
    """Calls a command on the prepared storage."""

    def call(*args: object, stdin: str | None = None) -> Called:
        return invoke(*args, "--storage", prepared.storage, stdin=stdin)

    return call
