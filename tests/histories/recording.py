"""Records scenarios as histories: `python -m tests.histories.recording [--again] [NAME ...]`; by default those without a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.histories.scenarios import SCENARIOS
from tests.histories.waiting_scenarios import WAITING_SCENARIOS
from wonder_ray import __version__
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.fold import new_state
from wonder_ray.state import Child, Fanout, Group, Kept, Run, Token, Undo

if TYPE_CHECKING:
    from tests.core import CoreRun

FOLDER = Path(__file__).parent
ALL = (*SCENARIOS, *WAITING_SCENARIOS)


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """A turn that comes out differently since it was recorded, and the reason."""

    turn: int
    why: str


class History(msgspec.Struct, forbid_unknown_fields=True):
    """One recorded run."""

    what: str
    version: str
    """Of wonder-ray, when it was recorded."""
    changes: list[Change]
    definition: dict[str, Any]
    rows: list[dict[str, Any]]
    state: dict[str, Any]

    @property
    def run_id(self) -> str:
        """Whose history it is."""
        found: str = self.state["run"]["run_id"]
        return found

    @property
    def model(self) -> WorkflowDefinition:
        """The definition as a model."""
        return WorkflowDefinition.model_validate(self.definition)


def record(what: str, run: CoreRun) -> History:
    """A run of the core as a history."""
    return History(
        what=what,
        version=__version__,
        changes=[],
        definition=run.definition.to_json(),
        rows=run.rows,
        state=plain(run.state.durable()),
    )


def plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def as_of_today(state: dict[str, Any]) -> dict[str, Any]:
    """A recorded state with what has been added to states since, at its defaults."""
    found = new_state(state["run"]["run_id"]).durable() | state
    found["run"] = msgspec.to_builtins(msgspec.convert(state["run"], Run))
    kinds = {"tokens": Token, "groups": Group, "fanouts": Fanout, "kept": Kept, "children": Child, "undos": Undo}
    for name, kind in kinds.items():
        found[name] = {key: msgspec.to_builtins(msgspec.convert(value, kind)) for key, value in found[name].items()}
    return plain(found)  # type: ignore[no-any-return] # a dict stays one


def load(path: Path) -> History:
    """A history from its file."""
    return msgspec.json.decode(path.read_bytes(), type=History)


def dump(history: History) -> str:
    """The text of its file: one line per row, so that two can be compared."""
    head = msgspec.to_builtins(history) | {"rows": [], "state": {}}
    lines = [f'"{name}": {json.dumps(value)}' for name, value in head.items() if name not in {"rows", "state"}]
    rows = ",\n".join(json.dumps(row) for row in history.rows)
    state = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in history.state.items())
    return "{\n" + ",\n".join([*lines, f'"rows": [\n{rows}\n]', f'"state": {{\n{state}\n}}']) + "\n}\n"


def paths() -> list[Path]:
    """Every recorded history."""
    return sorted(FOLDER.glob("*.json"))


def main(arguments: list[str]) -> None:
    """Write files."""
    again = "--again" in arguments
    names = {argument for argument in arguments if argument != "--again"}
    for scenario in ALL:
        path = FOLDER / f"{scenario.__name__}.json"
        if (names and scenario.__name__ not in names) or (path.exists() and not again):
            continue
        path.write_text(dump(record((scenario.__doc__ or "").strip(), scenario())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
