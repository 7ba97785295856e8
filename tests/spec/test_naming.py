"""The naming rule, and that what docstrings say of decisions, events and traces is so.

Decisions `UPPER_SNAKE`; workflow events `category.action`, but for the legacy `node_completed` and `node_failed`; trace events
`category.subcategory.action`, but for `dispatch.error` and `sql.query`, which the specification's own tables name; log lines
`snake_case`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.cases import a_definitions, s_definitions
from tests.cases.words import Case
from tests.spec.docs import calls, decision_classes, event_classes_used, events_of_docstring, module, package, tag_of
from tests.spec.flows import PAGES, boom, crawl
from tests.spec.watching import WatchedRun
from wonder_ray.coordinator import apply, traces
from wonder_ray.workflow_events import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.decisions import Decision

LEGACY = {"node_completed", "node_failed"}
SHORT_TRACES = {"dispatch.error", "sql.query"}
WORD = r"[a-z]+(?:_[a-z]+)*"
OBSERVED = {
    *("workflow.started", "workflow.cancel_requested", "workflow.paused", "workflow.resumed", "update.received"),
    *("run.resumed", "run.forked", "run.restored", "task.completed", "task.failed"),
    *("signal.received", "gate.answer_received", "group.members_added"),
    *("subworkflow.started", "subworkflow.completed", "subworkflow.failed"),
}
"""Events that no decision commands: what came in from outside, in an event of its own."""
EITHER = {"group.sealed", "group.completed_early"}
"""What a transition can do, and somebody outside as well."""

CLASSES = decision_classes()
LEVELS = ("debug", "info", "warning", "error", "critical")


def snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES, ids=tag_of)
def test_decisions_are_upper_snake(kind: type[Decision]) -> None:
    assert tag_of(kind) == snake(kind.__name__).upper()


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_workflow_events_are_category_action(name: str) -> None:
    assert name in LEGACY or re.fullmatch(rf"{WORD}\.{WORD}", name)
    assert name.replace(".", "_") == snake(EVENT_TYPES[name].__name__)


def test_the_legacy_events_are_there() -> None:
    assert set(EVENT_TYPES) >= LEGACY


def trace_names() -> set[str]:
    """Every trace event that the coordinator's source can add."""
    found = set()
    for m in package():
        if not m.below.startswith("coordinator/"):
            continue
        for call in calls(m.tree):
            target = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if target in {"add", "_trace"} and call.args and isinstance(call.args[0], ast.Constant):
                found.add(str(call.args[0].value))
        for node in ast.walk(m.tree):
            if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and isinstance(node.value.elts[0], ast.Constant):
                found.add(str(node.value.elts[0].value))
    return {name for name in found if "." in name}


def test_trace_events_are_category_subcategory_action() -> None:
    assert trace_names() >= SHORT_TRACES
    for name in trace_names() - SHORT_TRACES:
        assert re.fullmatch(rf"{WORD}\.{WORD}\.{WORD}", name), name


def test_the_table_of_trace_events_is_whole() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \|", traces.__doc__ or "", re.MULTILINE)
    assert {name for name, _ in rows} == trace_names()
    assert [category for name, category in rows if category != name.split(".", 1)[0]] == []


def test_trace_events_and_workflow_events_share_no_name() -> None:
    assert not trace_names() & set(EVENT_TYPES)


def log_names() -> Iterator[tuple[str, str]]:
    """(place, event type) of every line of log that is written with a literal name."""
    for m in package():
        for call in calls(m.tree):
            if not isinstance(call.func, ast.Attribute) or not call.args:
                continue
            owner, names = ast.unparse(call.func.value), [a.value for a in call.args[:2] if isinstance(a, ast.Constant)]
            if call.func.attr in LEVELS and re.fullmatch(r"self\._log|ports\.log|self\._client", owner):
                yield m.at(call.lineno, ""), str(names[0] if names else "")
            elif call.func.attr in {"log", "write", "_log_line"} and len(names) == 2 and names[0] in LEVELS:
                yield m.at(call.lineno, ""), str(names[1])


def test_log_lines_are_snake_case() -> None:
    named = [(place, name) for place, name in log_names() if name]
    assert len({name for _, name in named}) > 15
    assert [(place, name) for place, name in named if not re.fullmatch(WORD, name)] == []


def test_workflow_outcomes_are_no_log_lines() -> None:
    """ "Don't put workflow execution outcomes in logs (use events)"."""
    outcomes = {name.replace(".", "_") for name in EVENT_TYPES}
    assert [(place, name) for place, name in log_names() if name in outcomes] == []


# --- decisions and their events ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES, ids=tag_of)
def test_a_decision_has_a_handler_that_yields_what_its_docstring_says(kind: type[Decision]) -> None:
    handler = apply._HANDLERS[kind]
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(handler))).body
    assert isinstance(function, ast.FunctionDef)
    yielded = {name for statement in function.body for name in event_classes_used(statement)}
    assert yielded - LEGACY == events_of_docstring()[kind]
    assert handler.__name__ == f"_{tag_of(kind).lower()}"


def test_no_handler_is_left_over() -> None:
    assert set(apply._HANDLERS) == set(CLASSES)


def test_every_event_is_commanded_or_observed() -> None:
    commanded = {name for names in events_of_docstring().values() for name in names}
    assert commanded | OBSERVED | LEGACY == set(EVENT_TYPES)
    assert not commanded & OBSERVED
    recording = [module(f"coordinator/{name}.py").tree for name in ("observe", "restoring")]
    assert {name for tree in recording for name in event_classes_used(tree)} == OBSERVED | EITHER
    assert commanded >= EITHER


def all_cases() -> list[Case]:
    makers = [f for m in (a_definitions, s_definitions) for f in vars(m).values() if inspect.isfunction(f)]
    found = [maker() for maker in makers if not any(p.default is p.empty for p in inspect.signature(maker).parameters.values())]
    return [case for case in found if isinstance(case, Case)]


def test_decisions_come_to_the_events_of_their_docstrings() -> None:
    """On the runs of all behaviour cases: what each decision that planners made came to."""
    runs = [WatchedRun(case.definition, case.actions).run(case.input) for case in all_cases()]
    runs.append(WatchedRun(crawl(), {"fetch": boom}).run(PAGES))
    runs.append(WatchedRun(crawl()).run(PAGES))
    said = {tag_of(kind): names for kind, names in events_of_docstring().items()}
    made: dict[str, set[str]] = {}
    for run in runs:
        assert isinstance(run, WatchedRun)
        for step in run.steps:
            if step.decision is not None:
                made.setdefault(step.what, set()).update(step.events)
                assert step.events or step.what in {"CANCEL_TOKENS", "CANCEL_GROUP"}, step
    assert len(runs) > 15
    assert len(made) > 15
    assert {what: names - LEGACY - said[what] for what, names in made.items() if names - LEGACY - said[what]} == {}
