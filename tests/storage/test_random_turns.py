"""Any sequence of turns, crashes and upkeep: what is loaded is what was committed last."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.conftest import FilePlace, MemoryPlace
from wonder_ray.state import ErrorRecord, Fanout, Group, GroupStatus, Run, RunStatus, Token, TokenStatus
from wonder_ray.storage.records import ContextDelta, StoredRun, TurnRecord

if TYPE_CHECKING:
    from tests.storage.conftest import Place

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
maybe_text = st.none() | text
small = st.integers(0, 2**62)
maybe_small = st.none() | small
ordinals = st.integers(1, 6)
errors = st.none() | st.builds(ErrorRecord, text, text, st.booleans(), text, maybe_text)
tokens = st.builds(
    Token,
    id=text,
    ordinal=ordinals,
    node_id=text,
    status=st.sampled_from(TokenStatus),
    group_id=maybe_text,
    index=maybe_small,
    attempt=small,
    failures=st.dictionaries(text, small, max_size=2),
    solo=st.booleans(),
    due_us=maybe_small,
    input=json_values,
    result=json_values,
    error=errors,
    cause=errors,
)
groups = st.builds(
    Group,
    id=text,
    ordinal=ordinals,
    name=text,
    opener_id=text,
    status=st.sampled_from(GroupStatus),
    size=small,
    tolerated=st.none() | st.integers(0, 100) | st.floats(0, 1),
)
fanouts = st.builds(
    Fanout,
    id=text,
    ordinal=ordinals,
    transition_id=text,
    parent_id=text,
    count=small,
    items=st.none() | st.lists(json_values, max_size=3),
    outer_index=maybe_small,
)
runs = st.builds(
    Run,
    run_id=text,
    status=st.sampled_from(RunStatus),
    input=json_values,
    output=json_values,
    error=errors,
    deadline_us=maybe_small,
    turn=small,
    sequence=small,
)
one_line = st.binary(max_size=5).map(lambda line: line.replace(b"\n", b""))
deltas = st.builds(ContextDelta, text, text, st.just("set"), st.binary(max_size=5))
turns = st.fixed_dictionaries(
    {
        "run": runs,
        "tokens": st.lists(tokens, max_size=4),
        "groups": st.lists(groups, max_size=2),
        "fanouts": st.lists(fanouts, max_size=2),
        "deltas": st.lists(deltas, max_size=3),
        "iterations": st.lists(st.tuples(text, text, small), max_size=3),
        "records": st.lists(
            st.tuples(st.sampled_from(["kept", "child"]), st.sampled_from("abc"), st.none() | st.binary(max_size=5)), max_size=3
        ),
        "replies": st.lists(st.binary(max_size=5), max_size=2),
        "events": st.lists(one_line, max_size=3),
        "traces": st.lists(one_line, max_size=3),
    }
)
steps = st.one_of(
    turns,
    turns,
    st.sampled_from(["crash", "close", "checkpoint", "epoch"]),
    st.tuples(st.sampled_from(["events", "trace"]), st.integers(0, 12)),
)


class Model:
    """The plainest store there could be."""

    def __init__(self) -> None:
        self.stored: StoredRun | None = None
        self.epoch = 0
        self.outboxes: dict[str, list[tuple[int, int, bytes]]] = {"events": [], "trace": []}

    def record(self, turn: dict[str, Any]) -> TurnRecord:
        old = self.stored
        last = (old.last_sequence, old.last_trace_sequence) if old else (0, 0)
        return TurnRecord(
            run=turn["run"],
            epoch=self.epoch,
            tokens=turn["tokens"],
            groups=turn["groups"],
            fanouts=turn["fanouts"],
            deltas=turn["deltas"],
            iterations=turn["iterations"],
            records=turn["records"],
            keys=[(f"{len(old.keys) if old else 0}-{n}", reply) for n, reply in enumerate(turn["replies"])],
            events=list(enumerate(turn["events"], last[0] + 1)),
            traces=list(enumerate(turn["traces"], last[1] + 1)),
        )

    def commit(self, record: TurnRecord) -> None:
        old = self.stored
        self.stored = StoredRun(
            run=record.run,
            tokens=_by_ordinal(old.tokens if old else [], record.tokens),
            groups=_by_ordinal(old.groups if old else [], record.groups),
            fanouts=_by_ordinal(old.fanouts if old else [], record.fanouts),
            deltas=(old.deltas if old else []) + record.deltas,
            iterations=sorted(
                (s, t, n)
                for (s, t), n in {(s, t): n for s, t, n in (*(old.iterations if old else ()), *record.iterations)}.items()
            ),
            records=_records(old.records if old else [], record.records),
            keys={**(old.keys if old else {}), **dict(record.keys)},
            epoch_max=self.epoch,
            last_sequence=record.events[-1][0] if record.events else (old.last_sequence if old else 0),
            last_trace_sequence=record.traces[-1][0] if record.traces else (old.last_trace_sequence if old else 0),
        )
        for stream, rows in (("events", record.events), ("trace", record.traces)):
            self.outboxes[stream] += [(sequence, self.epoch, line) for sequence, line in rows]


def _by_ordinal(old: list[Any], new: list[Any]) -> list[Any]:
    found = {entry.ordinal: entry for entry in (*old, *new)}
    return [found[ordinal] for ordinal in sorted(found)]


def _repr(stored: StoredRun | None) -> str:
    """The order of keys is nobody's promise."""
    return repr(stored and msgspec.structs.replace(stored, keys=dict(sorted(stored.keys.items()))))


def run_steps(place: Place, todo: list[Any]) -> None:
    model = Model()
    store = place.open()
    for step in todo:
        if isinstance(step, dict):
            record = model.record(step)
            store.commit(record)
            model.commit(record)
        elif isinstance(step, tuple):
            stream, up_to = step
            store.forget(stream, up_to)
            model.outboxes[stream] = [row for row in model.outboxes[stream] if row[0] > up_to]
        elif step == "epoch":
            model.epoch += 1
            store.take_epoch(model.epoch)
            if model.stored:
                model.stored.epoch_max = model.epoch
        elif step == "checkpoint":
            store.checkpoint()
        else:
            place.crash() if step == "crash" else store.close()
            store = place.open()
        assert store.epoch_max() == model.epoch
    loaded = store.load()
    assert loaded == model.stored
    assert _repr(loaded) == _repr(model.stored), "equal, but of other types"
    assert {stream: store.outbox(stream) for stream in ("events", "trace")} == model.outboxes
    store.close()


def _records(old: list[tuple[str, str, bytes]], new: list[tuple[str, str, bytes | None]]) -> list[tuple[str, str, bytes]]:
    """In the order of their keys, as a table without row numbers gives them."""
    found: dict[tuple[str, str], bytes | None] = {(kind, name): value for kind, name, value in (*old, *new)}
    return sorted((*key, value) for key, value in found.items() if value is not None)


@given(st.lists(steps, max_size=12))
def test_the_memory_store_holds_what_was_committed_last(todo: list[Any]) -> None:
    run_steps(MemoryPlace(), todo)


@given(st.lists(steps, max_size=12))
def test_the_file_holds_what_was_committed_last(todo: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_steps(FilePlace(Path(folder)), todo)
