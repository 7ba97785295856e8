"""The catalogue is complete, says in the README what the tests show, and nothing in it is done by code in an action."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.patterns.catalogue import modules, pattern_table
from tests.patterns.harness import PLAIN
from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.models import ActionNode, StepsNode, WorkflowDefinition
from wonder_ray.definitions.validation import validate

if TYPE_CHECKING:
    from types import ModuleType

README: Final = Path(__file__).parents[2] / "README.md"
MODULES: Final = modules()


def definitions(module: ModuleType) -> dict[str, WorkflowDefinition]:
    """The definitions that a module names."""
    return {name: value for name, value in vars(module).items() if isinstance(value, WorkflowDefinition)}


def test_all_43_patterns_are_there_each_in_its_file() -> None:
    assert list(MODULES) == [f"test_wcp_{number:02}.py" for number in range(1, 44)]
    assert [module.PATTERN.number for module in MODULES.values()] == list(range(1, 44))
    assert len({module.PATTERN.name for module in MODULES.values()}) == 43


@pytest.mark.parametrize("name", MODULES)
def test_a_pattern_is_described_defined_and_tested(name: str) -> None:
    module = MODULES[name]
    pattern = module.PATTERN
    assert (module.__doc__ or "").startswith(f"WCP-{pattern.number}, {pattern.name}: ")
    assert "Carried by" in (module.__doc__ or "")
    assert "DEFINITION" in definitions(module)
    tests = [value for key, value in vars(module).items() if key.startswith("test_")]
    assert len(tests) >= 2, "the normal course, and a trap"


@pytest.mark.parametrize("name", MODULES)
def test_a_definition_is_one_that_users_may_write(name: str) -> None:
    for definition in definitions(MODULES[name]).values():
        assert [str(problem) for problem in validate(definition) if problem.severity == "error"] == []
        assert definition_from_json(definition.to_json()) == definition


@pytest.mark.parametrize("name", MODULES)
def test_no_pattern_is_done_by_code_in_an_action(name: str) -> None:
    for definition in definitions(MODULES[name]).values():
        assert not any(isinstance(node, StepsNode) for node in definition.nodes)
        assert {node.action for node in definition.nodes if isinstance(node, ActionNode)} <= PLAIN


def test_the_readme_shows_the_patterns_as_they_are() -> None:
    found = re.search(r"<!-- patterns -->\n(.*)\n<!-- /patterns -->", README.read_text(), re.DOTALL)
    assert found is not None, "the README has no section between <!-- patterns --> and <!-- /patterns -->"
    assert found[1] == pattern_table(), f"the table should be:\n\n{pattern_table()}\n"
