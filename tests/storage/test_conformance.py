"""What every store of a run does: one suite over memory and file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.storage.samples import RUN_ID, fanout, full_run, full_token, group, lines, record
from wonder_ray.errors import StaleEpochError, StorageError
from wonder_ray.state import GroupStatus, Run, Token, TokenStatus
from wonder_ray.storage import opening
from wonder_ray.storage.records import ContextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.storage.conftest import Place
    from wonder_ray.storage.store import RunStore

HARD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    -(10**40),
    0.1,
    -0.0,
    1e300,
    1.0,
    "",
    "nul \x00, quote ' \" ; emoji 🎉, combining é, \u2028",
    [],
    {},
    {"a": [{"b": None}, [1, 2.5]], "": "empty key"},
)


def assert_every_field_is_set(struct: msgspec.Struct) -> None:
    """A field that is added to a struct must be added to the tests of what is stored."""
    for info in msgspec.structs.fields(struct):
        default = info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default
        assert getattr(struct, info.name) != default, f"{type(struct).__name__}.{info.name} is not set in this test"


def test_a_new_store_holds_no_run(place: Place) -> None:
    store = place.open()
    assert store.load() is None
    assert store.epoch_max() == 0
    assert store.outbox("events") == []
    assert store.get_meta("definition") is None


def test_every_field_of_every_struct_comes_back(place: Place, store: RunStore) -> None:
    group_ = group(parent_id="g_0", status=GroupStatus.FIRED, size=5, active=1, arrived=2, failures=1, tolerated=0.5)
    group_ = msgspec.structs.replace(group_, open=True, added=1, complete=True, due_us=9)
    fanout_ = fanout(items=["a", {"b": 1}], item_name="page", max_concurrency=7, outer_id="f_0", outer_index=4, first=3)
    written = record(
        run=full_run(),
        tokens=[full_token()],
        groups=[group_],
        fanouts=[fanout_],
        deltas=[ContextDelta("", "state.a.b", "set", b'{"x":1}'), ContextDelta("t_1", "output.c", "set", b"null")],
        iterations=[("", "a->b", 2), ("t_1", "a->b", 1)],
        records=[("kept", "s_1", b'{"id":"s_1"}'), ("undo", "t_1", b"{}")],
        keys=[("signal:1", b"{}"), ("signal:2", b"")],
        events=lines(1, 4),
        traces=lines(1, 2),
        meta={"definition": b"{}"},
    )
    for struct in (written, written.run, full_token(), group_, fanout_):
        assert_every_field_is_set(struct)
    store.commit(written)
    store.close()
    stored = place.open().load()
    assert stored is not None
    assert (stored.run, stored.tokens, stored.groups, stored.fanouts) == (full_run(), [full_token()], [group_], [fanout_])
    assert (stored.deltas, stored.iterations, stored.keys) == (written.deltas, written.iterations, dict(written.keys))
    assert sorted(stored.records) == sorted(written.records)
    assert (stored.epoch_max, stored.last_sequence, stored.last_trace_sequence) == (1, 4, 2)


def test_a_record_is_replaced_and_dropped(place: Place, store: RunStore) -> None:
    store.commit(record(1, records=[("kept", "s_1", b"1"), ("child", "s_1", b"2"), ("undo", "t_1", b"3")]))
    store.commit(record(2, records=[("kept", "s_1", None), ("child", "s_1", b"4"), ("kept", "never", None)]))
    store.close()
    stored = place.open().load()
    assert stored is not None
    assert sorted(stored.records) == [("child", "s_1", b"4"), ("undo", "t_1", b"3")]


def test_fields_left_at_their_defaults_come_back(place: Place, store: RunStore) -> None:
    tokens = [Token(id="t_1", ordinal=1, node_id="a")]
    store.commit(record(tokens=tokens, groups=[group()], fanouts=[fanout()]))
    stored = store.load()
    assert stored is not None
    assert (stored.run, stored.tokens) == (Run(run_id=RUN_ID, turn=1), tokens)
    assert (stored.groups, stored.fanouts) == ([group()], [fanout()])


@pytest.mark.parametrize("value", HARD_VALUES, ids=repr)
def test_json_values_come_back_as_they_were(store: RunStore, value: Any) -> None:
    run = Run(run_id=RUN_ID, input=value, output=value)
    store.commit(record(run=run, tokens=[Token(id="t_1", ordinal=1, node_id="a", input=value, result=value)]))
    stored = store.load()
    assert stored is not None
    for found in (stored.run.input, stored.run.output, stored.tokens[0].input, stored.tokens[0].result):
        assert (found, type(found), repr(found)) == (value, type(value), repr(value))


@pytest.mark.parametrize("tolerated", [None, 0, 3, 0.25, 1.0])
def test_a_tolerance_stays_a_count_or_a_fraction(store: RunStore, tolerated: float | None) -> None:
    store.commit(record(groups=[group(tolerated=tolerated)]))
    stored = store.load()
    assert stored is not None
    assert repr(stored.groups[0].tolerated) == repr(tolerated)


def test_what_is_written_again_replaces_what_was_there(store: RunStore) -> None:
    store.commit(
        record(1, tokens=[full_token(1), full_token(2)], groups=[group(size=1)], fanouts=[fanout()], iterations=[("", "e", 1)])
    )
    done = Token(id="t_2", ordinal=2, node_id="b", status=TokenStatus.COMPLETED)
    run = Run(run_id=RUN_ID, turn=2, output="later")
    store.commit(
        record(run=run, tokens=[done], groups=[group(size=2)], fanouts=[fanout(item_name="x")], iterations=[("", "e", 5)])
    )
    stored = store.load()
    assert stored is not None
    assert (stored.run, stored.tokens) == (run, [full_token(1), done])
    assert (stored.groups, stored.fanouts, stored.iterations) == ([group(size=2)], [fanout(item_name="x")], [("", "e", 5)])


def test_tokens_groups_and_fanouts_come_back_by_ordinal(store: RunStore) -> None:
    store.commit(record(tokens=[full_token(3), full_token(1)], groups=[group(2), group(1)], fanouts=[fanout(2), fanout(1)]))
    store.commit(record(2, tokens=[full_token(2)]))
    stored = store.load()
    assert stored is not None
    assert [token.ordinal for token in stored.tokens] == [1, 2, 3]
    assert ([g.ordinal for g in stored.groups], [f.ordinal for f in stored.fanouts]) == ([1, 2], [1, 2])


def test_context_writes_come_back_in_the_order_they_were_made(store: RunStore) -> None:
    deltas = [ContextDelta("", "state.a", "set", str(n).encode()) for n in range(20)]
    store.commit(record(1, deltas=deltas[:7]))
    store.commit(record(2, deltas=deltas[7:]))
    stored = store.load()
    assert stored is not None
    assert stored.deltas == deltas


def test_what_is_stored_is_a_copy(store: RunStore) -> None:
    token = full_token()
    run = Run(run_id=RUN_ID, input={"a": 1})
    store.commit(record(run=run, tokens=[token]))
    token.status = TokenStatus.COMPLETED
    token.input["url"] = "changed"
    run.input["a"] = 2
    first = store.load()
    assert first is not None
    assert (first.tokens, first.run.input) == ([full_token()], {"a": 1})
    first.tokens[0].input["url"] = "changed"
    second = store.load()
    assert second is not None
    assert second.tokens == [full_token()]


def test_a_change_inside_an_input_that_was_stored_is_stored_too(store: RunStore) -> None:
    run = Run(run_id=RUN_ID, output={"a": 1})
    store.commit(record(run=run))
    run.output["a"] = 2
    store.commit(record(run=run))
    stored = store.load()
    assert stored is not None
    assert stored.run.output == {"a": 2}


def test_the_outbox_gives_ranges_with_the_epoch_of_each_row(store: RunStore) -> None:
    store.commit(record(1, events=lines(1, 3), traces=lines(1, 1)))
    store.take_epoch(5)
    store.commit(record(2, epoch=5, events=lines(4, 6)))
    assert store.outbox("events", after=2, limit=3) == [
        (3, 1, lines(3, 3)[0][1]),
        (4, 5, lines(4, 4)[0][1]),
        (5, 5, lines(5, 5)[0][1]),
    ]
    assert [row[0] for row in store.outbox("events")] == [1, 2, 3, 4, 5, 6]
    assert store.outbox("events", after=6) == []
    assert [row[0] for row in store.outbox("trace", 0, 10)] == [1]


def test_forgotten_rows_are_gone_and_the_numbers_go_on(place: Place, store: RunStore) -> None:
    store.commit(record(1, events=lines(1, 5), traces=lines(1, 2)))
    store.forget("events", 3)
    assert [row[0] for row in store.outbox("events")] == [4, 5]
    assert [row[0] for row in store.outbox("trace")] == [1, 2]
    store.forget("events", 5)
    store.forget("trace", 99)
    place.crash()
    store = place.open()
    stored = store.load()
    assert stored is not None
    assert (stored.last_sequence, stored.last_trace_sequence) == (5, 2)
    store.commit(record(2, events=lines(6, 6), traces=lines(3, 3)))
    assert [row[0] for row in store.outbox("events")] == [6]


@pytest.mark.parametrize(
    "events",
    [
        lines(4, 5),
        lines(6, 6),
        lines(3, 3),
        lines(2, 5),
        [*lines(4, 4), *lines(6, 6)],
        [(5, b""), (4, b"")],
        [(4, b""), (4, b"")],
    ],
    ids=lambda rows: ",".join(str(row[0]) for row in rows),
)
@pytest.mark.parametrize("stream", ["events", "traces"])
def test_sequence_numbers_must_go_on_without_gap_or_repetition(
    place: Place, store: RunStore, stream: str, events: list[tuple[int, bytes]]
) -> None:
    store.commit(record(1, **{stream: lines(1, 3)}))
    follow = [row[0] for row in events] == [4, 5]
    if follow:
        store.commit(record(2, **{stream: events}))
    else:
        with pytest.raises(StorageError, match="dense sequence numbers"):
            store.commit(record(2, tokens=[full_token()], **{stream: events}))
    place.crash()
    stored = place.open().load()
    assert stored is not None
    assert stored.run.turn == (2 if follow else 1)
    assert stored.tokens == []


def test_a_rebuilt_run_goes_on_above_the_events_that_lie_elsewhere(store: RunStore) -> None:
    store.commit(record(1, events=lines(101, 102)))
    stored = store.load()
    assert stored is not None
    assert stored.last_sequence == 102


def test_a_key_that_was_handled_before_fails_its_whole_turn(place: Place, store: RunStore) -> None:
    store.commit(record(1, keys=[("k", b"first")]))
    with pytest.raises(StorageError, match="stored twice"):
        store.commit(record(2, tokens=[full_token()], keys=[("new", b""), ("k", b"second")], events=lines(1, 1)))
    place.crash()
    store = place.open()
    stored = store.load()
    assert stored is not None
    assert (stored.keys, stored.tokens, stored.run.turn) == ({"k": b"first"}, [], 1)
    assert store.outbox("events") == []


def test_epochs_only_rise(place: Place, store: RunStore) -> None:
    store.take_epoch(3)
    for stale in (1, 3):
        with pytest.raises(StaleEpochError, match=f"epoch {stale} "):
            store.take_epoch(stale)
    store.take_epoch(4)
    place.crash()
    assert place.open().epoch_max() == 4


def test_a_turn_of_an_older_epoch_is_refused_and_ends_the_store(place: Place, store: RunStore) -> None:
    store.commit(record(1))
    store.take_epoch(2)
    with pytest.raises(StaleEpochError, match="must stop"):
        store.commit(record(2, epoch=1, tokens=[full_token()]))
    with pytest.raises(StorageError, match="no longer usable"):
        store.load()
    stored = place.open().load()
    assert stored is not None
    assert (stored.tokens, stored.epoch_max) == ([], 2)


def test_a_commit_under_a_higher_epoch_takes_it(place: Place, store: RunStore) -> None:
    store.commit(record(1, epoch=7))
    assert store.epoch_max() == 7
    place.crash()
    assert place.open().epoch_max() == 7


def test_facts_are_kept_and_replaced(place: Place, store: RunStore) -> None:
    store.set_meta({"definition": b"{}", "bundle": b"\x00\xff"})
    store.set_meta({"definition": b'{"nodes":{}}'})
    store.commit(record(1, meta={"acknowledged": b"7"}))
    place.crash()
    store = place.open()
    found = {key: store.get_meta(key) for key in ("definition", "bundle", "acknowledged", "other", "epoch")}
    assert found == {"definition": b'{"nodes":{}}', "bundle": b"\x00\xff", "acknowledged": b"7", "other": None, "epoch": None}


def test_the_epoch_is_no_fact_that_can_be_set(store: RunStore) -> None:
    with pytest.raises(StorageError, match="take_epoch"):
        store.set_meta({"epoch": b"9"})


def test_a_crash_loses_nothing_that_was_committed(place: Place, store: RunStore) -> None:
    store.commit(record(1, tokens=[full_token()], events=lines(1, 2)))
    place.crash()
    store = place.open()
    stored = store.load()
    assert stored is not None
    assert (stored.tokens, stored.last_sequence) == ([full_token()], 2)
    assert len(store.outbox("events")) == 2


def test_a_value_that_cannot_be_stored_fails_its_whole_turn(place: Place, store: RunStore) -> None:
    store.commit(record(1))
    broken = Token(id="t_1", ordinal=1, node_id="a", result="\ud800")
    with pytest.raises(StorageError):
        store.commit(record(2, tokens=[full_token(2), broken], events=lines(1, 1)))
    with pytest.raises(StorageError, match="no longer usable"):
        store.commit(record(2))
    place.crash()
    stored = place.open().load()
    assert stored is not None
    assert (stored.tokens, stored.run.turn, stored.last_sequence) == ([], 1, 0)


def test_two_stores_cannot_have_one_run_open(place: Place, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_MS", 10)
    with pytest.raises(StorageError, match="in use"):
        place.open()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.load(),
        lambda store: store.commit(record(1)),
        lambda store: store.outbox("events"),
        lambda store: store.forget("events", 1),
        lambda store: store.take_epoch(9),
        lambda store: store.set_meta({"a": b""}),
        lambda store: store.get_meta("a"),
        lambda store: store.checkpoint(),
    ],
)
def test_a_closed_store_refuses_every_call(store: RunStore, call: Callable[[RunStore], object]) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageError, match="it was closed"):
        call(store)


def test_a_checkpoint_changes_nothing_that_is_stored(store: RunStore) -> None:
    store.commit(record(1, tokens=[full_token()]))
    before = store.load()
    store.checkpoint()
    assert store.load() == before
    store.commit(record(2, tokens=[full_token(2)]))
    after = store.load()
    assert after is not None
    assert len(after.tokens) == 2
