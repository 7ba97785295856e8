from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import CoreRun
from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.models import ActionNode, WorkflowDefinition
from wonder_ray.definitions.validation import validate
from wonder_ray.errors import DefinitionError
from wonder_ray.executor.protocol import ActionRef
from wonder_ray.ids import NAME_PATTERN
from wonder_ray.interop import wfformat, wfformat_actions
from wonder_ray.interop.wfformat import import_wfformat, node_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Edges = Mapping[str, list[str]]
    Change = Callable[[dict[str, Any]], None]

SHARED: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "wfinstances"
CHECKED_TASKS_MAX: Final = 40  # the invariants are checked after every turn up to here: that takes quadratic time

# file: (tasks, digest of the run, digest of the edges)
INSTANCES: Final = {
    "bacass-dirt02-001.json": (
        11,
        "2124368a23996f6afb0667c9b15b0844789738a31afb0ae72023c7aca6650354",
        "c0650787de7c4a0a79ef19b27b2558af5d6d163e7de8794aa26789a6619a4246",
    ),
    "soykb-chameleon-10fastq-10ch-001.json": (
        96,
        "5a6aabce6d71523f1d590647c1d56867f832d8b3e23d49becc0088fc38075ba1",
        "b7863822a31a127e3b2f0caadb0a7c6fa790cc574dacf47868cb2c7a91c4828a",
    ),
    "taxprofiler-dirt02-001.json": (
        127,
        "ef36252dbd2ca82332b38af92d08552eb3ae6297e6435430b08a6a7570af6b05",
        "feadcac7d3824c7e26c3d0fed9b58c836ccc482fef9d61e4483736dfe6618c47",
    ),
    "bwa-chameleon-large-003.json": (
        1004,
        "4604759e9627f88b56f5e99735f18cb7583e0e61e25e7ebd127935c5c1357759",
        "86dbb112f9dccd3776601f02726d269b1d5802af41a53f388b6ea6dca39bd798",
    ),
    "montage-wfgen-5300-seed20260101.json": (
        5296,
        "1254b507523033cd71f5beb0d09a0e4265cec4d28c36bfe7a9d9c09fb97cd7e9",
        "5ad847f49c4b2c5eb50a9612fbf1f1a360ad6b9b6d3f76df14c23e8e44e72ef0",
    ),
}
ODD_ID: Final = 'sort "reads"\\ of\n\u00e4 \U0001f9ec'

# A diamond with a transitive edge, a chain that it does not meet, a task without either, and an id that no node may have.
EDGES: Final = {
    "fetch": [],
    "align.1": ["fetch"],
    ODD_ID: ["fetch"],
    "merge": ["align.1", ODD_ID, "fetch"],
    "notes": [],
    "finish": ["notes"],
    "alone": [],
}


def document(edges: Edges = EDGES, *, version: str = "1.5") -> dict[str, Any]:
    children: dict[str, list[str]] = {task: [] for task in edges}
    for task, parents in edges.items():
        for parent in parents:
            children[parent].append(task)
    listed = [{"name": t, "id": t, "parents": parents, "children": children[t]} for t, parents in edges.items()]
    executed = [{"id": task, "runtimeInSeconds": 1.5 * position} for position, task in enumerate(edges)]
    return {
        "name": "made for a test",
        "schemaVersion": version,
        "workflow": {"specification": {"tasks": listed, "files": []}, "execution": {"tasks": executed, "machines": []}},
    }


def written(folder: Path, value: object) -> Path:
    path = folder / "made.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def digest(edges: Edges) -> str:
    """The rule, once more: recursive, and independent of any engine."""

    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    def of(task: str) -> str:
        return sha(task + "|" + "|".join(sorted(of(parent) for parent in edges[task])))

    parents = {parent for found in edges.values() for parent in found}
    return sha("|".join(sorted(of(task) for task in edges if task not in parents)))


def actions(definition: WorkflowDefinition) -> dict[str, Callable[..., Any]]:
    """What the nodes' actions name."""
    found = {}
    for node in definition.nodes:
        assert isinstance(node, ActionNode)
        module, _, name = node.action.partition(":")
        assert module == wfformat_actions.__name__
        found[node.id] = getattr(wfformat_actions, name)
    return found


def core_run(definition: WorkflowDefinition, **settings: Any) -> CoreRun:
    checked = len(definition.nodes) <= CHECKED_TASKS_MAX
    return CoreRun(definition, actions(definition), room=64, checked=checked, **settings)


def newest_first(flying: list[Any]) -> int:
    return len(flying) - 1


# ----------------------------------------------------------------------------------- a file of our own


@pytest.mark.parametrize("version", ["1.5", "1.6"])
def test_a_run_gives_the_digest_of_the_graph(tmp_path: Path, version: str) -> None:
    definition = import_wfformat(written(tmp_path, document(version=version)))
    run = core_run(definition).run()
    assert run.output == {"digest": digest(EDGES), "tasks": len(EDGES)}
    assert run.completed == {node.id: 1 for node in definition.nodes}


def test_the_order_of_results_and_crashes_do_not_matter(tmp_path: Path) -> None:
    definition = import_wfformat(written(tmp_path, document()))
    for settings in ({"order": newest_first}, {"crash_every_turn": True}, {"order": newest_first, "crash_at": 4}):
        assert core_run(definition, **settings).run().output["digest"] == digest(EDGES)


def test_tasks_wait_for_all_their_parents(tmp_path: Path) -> None:
    run = core_run(import_wfformat(written(tmp_path, document())), order=newest_first).run()
    ids = node_ids(EDGES)
    for task, parents in EDGES.items():
        for parent in parents:
            assert run.position("node_completed", ids[parent]) < run.position("task.dispatched", ids[task])


def test_the_definition_needs_no_bundle_and_draws_no_warning(tmp_path: Path) -> None:
    definition = import_wfformat(written(tmp_path, document()))
    assert definition.bundle is None
    assert validate(definition) == []
    assert definition.name == "made-for-a-test"
    assert all(isinstance(node, ActionNode) and not ActionRef.parse(node.action).pickled for node in definition.nodes)


def test_events_are_linear_in_the_edges(tmp_path: Path) -> None:
    def events_and_bytes(width: int) -> tuple[int, int]:
        edges: dict[str, list[str]] = {"root": []} | {f"t{i}": ["root"] for i in range(width)}
        run = core_run(import_wfformat(written(tmp_path, document({**edges, "last": list(edges)})))).run()
        return len(run.rows), sum(len(line) for line in run.lines)

    few, many = events_and_bytes(100), events_and_bytes(400)
    assert many[0] < 4 * few[0]
    assert many[1] < 4.1 * few[1]


def test_runtimes_are_scaled_and_no_sleep_is_the_default(tmp_path: Path) -> None:
    path = written(tmp_path, document())
    asleep = {node.id: node.input.get("seconds") for node in import_wfformat(path).nodes if isinstance(node, ActionNode)}
    assert set(asleep.values()) == {None}
    scaled = {n.id: n.input.get("seconds") for n in import_wfformat(path, runtime_scale=1e-7).nodes if isinstance(n, ActionNode)}
    assert scaled["fetch"] is None
    assert compile_expression(scaled["alone"] or "").evaluate({}) == pytest.approx(9e-7)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_runtime_scale_is_a_number_of_at_least_zero(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ValueError, match="runtime_scale is"):
        import_wfformat(written(tmp_path, document()), runtime_scale=scale)


def test_tasks_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    wfformat_actions.run_task("a", [])
    wfformat_actions.run_task("a", [], seconds=0.25)
    assert slept == [0.25]


def test_a_task_called_finish_keeps_its_name(tmp_path: Path) -> None:
    ids = [node.id for node in import_wfformat(written(tmp_path, document())).nodes]
    assert "finish" in ids
    assert ids[-1] == "finish-2"


def test_a_parent_listed_twice_counts_once(tmp_path: Path) -> None:
    edges = {"a": [], "b": ["a", "a"]}
    definition = import_wfformat(written(tmp_path, document(edges)))
    assert len(definition.transitions) == 2
    assert core_run(definition).run().output["digest"] == digest({"a": [], "b": ["a"]})


# ------------------------------------------------------------------------------------------------- ids


@given(st.lists(st.text(min_size=1, max_size=200), unique=True))
def test_node_ids_are_names_and_one_to_one(task_ids: list[str]) -> None:
    task_ids = [*task_ids, *(name for name in node_ids(task_ids).values() if name not in task_ids)]
    found = node_ids(task_ids)
    assert all(NAME_PATTERN.fullmatch(node_id) for node_id in found.values())
    assert len(set(found.values())) == len(set(task_ids))


def test_ids_that_nodes_may_have_are_kept() -> None:
    names = ["a", "A.b-c_d", "0", "x" * 128]
    assert node_ids(names) == {name: name for name in names}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_id_is_written_as_a_literal(text: str) -> None:
    assert compile_expression(wfformat._literal(text)).evaluate({}) == text


# ---------------------------------------------------------------------------------------------- errors


def spec(value: dict[str, Any], position: int) -> dict[str, Any]:
    found = value["workflow"]["specification"]["tasks"][position]
    assert isinstance(found, dict)
    return found


def executed(value: dict[str, Any], position: int) -> dict[str, Any]:
    found = value["workflow"]["execution"]["tasks"][position]
    assert isinstance(found, dict)
    return found


BROKEN: Final[list[tuple[Change, str]]] = [
    (lambda d: d.update(schemaVersion="1.4"), "schemaVersion: is '1.4'; versions 1.5 and 1.6 can be imported"),
    (lambda d: d.pop("schemaVersion"), "schemaVersion: is missing"),
    (lambda d: d.pop("workflow"), "workflow: is missing"),
    (lambda d: d["workflow"].update(specification=[]), "workflow.specification: is a list, not an object"),
    (lambda d: d["workflow"].pop("execution"), "workflow.execution: is missing"),
    (lambda d: d["workflow"]["specification"].update(tasks=[]), "workflow.specification.tasks: is [], not a list of tasks"),
    (
        lambda d: d["workflow"]["specification"]["tasks"].insert(1, 7),
        "workflow.specification.tasks[1]: is a number, not an object",
    ),
    (lambda d: spec(d, 4).update(id=""), "workflow.specification.tasks[4].id: is '', not a text"),
    (lambda d: spec(d, 4).update(id="a\0"), "workflow.specification.tasks[4].id: is 'a\\x00', not a text"),
    (lambda d: spec(d, 1).update(id="fetch"), "task 'fetch': is twice in workflow.specification.tasks; ids are unique"),
    (lambda d: executed(d, 1).update(id="fetch"), "task 'fetch': is twice in workflow.execution.tasks"),
    (lambda d: spec(d, 6).pop("parents"), "task 'alone', parents: is missing; it is a list of task ids"),
    (lambda d: spec(d, 6).update(children=[1]), "task 'alone', children: is [1]; it is a list of task ids"),
    (lambda d: spec(d, 6).update(parents=["ghost"]), "task 'alone', parents: there is no task 'ghost'"),
    (lambda d: spec(d, 6).update(children=["ghost"]), "task 'alone', children: there is no task 'ghost'"),
    (lambda d: spec(d, 6).update(parents=["notes"]), "task 'alone', parents: names 'notes', whose children do not name 'alone'"),
    (lambda d: spec(d, 6).update(children=["notes"]), "task 'alone', children: names 'notes', whose parents do not name 'alone'"),
    (lambda d: executed(d, 6).pop("runtimeInSeconds"), "task 'alone', runtimeInSeconds: is missing"),
    (lambda d: executed(d, 6).update(runtimeInSeconds=-1), "task 'alone', runtimeInSeconds: is -1, not a number of at least 0"),
    (lambda d: executed(d, 6).update(runtimeInSeconds="1"), "task 'alone', runtimeInSeconds: is '1', not a number"),
    (lambda d: d["workflow"]["execution"]["tasks"].pop(), "task 'alone': has no runtime: it is not in workflow.execution.tasks"),
    (lambda d: executed(d, 6).update(id="ghost"), "task 'ghost': is in workflow.execution.tasks, but not in workflow.spec"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_what_is_wrong_is_named_with_its_task_and_field(tmp_path: Path, change: Change, message: str) -> None:
    value = copy.deepcopy(document())
    change(value)
    path = written(tmp_path, value)
    with pytest.raises(DefinitionError) as caught:
        import_wfformat(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cycle_is_spelled_out(tmp_path: Path) -> None:
    edges = {"a": ["c"], "b": ["a"], "c": ["b"], "after": ["c"], "free": []}
    with pytest.raises(DefinitionError, match=r"4 tasks can never start: .* cycle.*: '(\w)' -> '\w' -> '\w' -> '\1'$") as caught:
        import_wfformat(written(tmp_path, document(edges)))
    path = str(caught.value).rpartition(": ")[2].replace("'", "").split(" -> ")
    assert all(parent in edges[child] for parent, child in itertools.pairwise(path))


def test_a_task_that_waits_for_itself_is_a_cycle(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="'a' -> 'a'"):
        import_wfformat(written(tmp_path, document({"a": ["a"]})))


def test_many_errors_are_listed_up_to_a_bound(tmp_path: Path) -> None:
    value = document({f"t{i}": [] for i in range(100)})
    for position in range(100):
        del executed(value, position)["runtimeInSeconds"]
    with pytest.raises(DefinitionError, match=r"for 100 reasons:(?s:.*)task 't19'(?s:.*)and 80 more"):
        import_wfformat(written(tmp_path, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a JSON text"), ("[]", "holds a list; a WfFormat file is an object"), ('{"name": "\\ud800"}', "not a JSON text")],
)
def test_a_file_that_is_no_wfformat_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        import_wfformat(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"none\.json: the file: cannot be read: No such file"):
        import_wfformat(tmp_path / "none.json")


# ---------------------------------------------------------------------------------- recorded workflows


@functools.cache
def imported(name: str) -> WorkflowDefinition:
    """A definition from the folder of recorded workflows that lies beside the clone; it is not part of this repository."""
    if not (SHARED / name).exists():
        pytest.skip(f"the recorded workflow {name} is not beside the clone, in ../shared/data/{SHARED.name}")
    return import_wfformat(SHARED / name)


@pytest.mark.parametrize("name", INSTANCES)
def test_recorded_workflows_keep_their_edges(name: str) -> None:
    tasks, _, edges = INSTANCES[name]
    definition = imported(name)
    assert len(definition.nodes) == tasks + 1
    pairs = sorted(f"{t.source}>{t.target}" for t in definition.transitions if t.target != "finish")
    assert hashlib.sha256("\n".join(pairs).encode()).hexdigest() == edges


@pytest.mark.parametrize("name", INSTANCES)
def test_recorded_workflows_give_their_digests_although_their_coordinator_dies_half_way(name: str) -> None:
    tasks, expected, _ = INSTANCES[name]
    definition = imported(name)
    run = core_run(definition, crash_at=tasks // 2).run()
    assert run.output == {"digest": expected, "tasks": tasks}
    assert run.completed == {node.id: 1 for node in definition.nodes}
    assert "run.resumed" in {row["event_type"] for row in run.rows}


@pytest.mark.parametrize("name", list(INSTANCES)[:-1])
def test_recorded_workflows_give_their_digests_undisturbed_and_newest_first(name: str) -> None:
    tasks, expected, _ = INSTANCES[name]
    assert core_run(imported(name)).run().output == {"digest": expected, "tasks": tasks}
    assert core_run(imported(name), order=newest_first).run().output == {"digest": expected, "tasks": tasks}
