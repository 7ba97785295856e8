"""`wonder sql` and `wonder report` on a prepared storage, with no Ray anywhere."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from tests.cli.prepared import COMPLETED, FAILED, OPEN, SHIPPED
from wonder_ray.analytics.reports import REPORTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call
    from tests.cli.prepared import Prepared

PER_RUN = "SELECT workflow_run_id, count(*) AS n, min(timestamp) AS began FROM events GROUP BY 1 ORDER BY 1"


def test_a_query_is_answered_as_a_table_as_json_and_as_csv(look: Call, prepared: Prepared) -> None:
    counts = {COMPLETED: len(prepared.completed.rows), FAILED: len(prepared.failed.rows), OPEN: SHIPPED}
    found = look("sql", PER_RUN)
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[0].split() == ["workflow_run_id", "n", "began"]
    assert {line.split()[0]: int(line.split()[1]) for line in found.out.splitlines()[1:]} == counts
    as_json = look("sql", PER_RUN, "--json").lines
    assert {row["workflow_run_id"]: row["n"] for row in as_json} == counts
    assert as_json[0]["began"].endswith("Z")
    names, *rows = csv.reader(look("sql", PER_RUN, "--csv").out.splitlines())
    assert names == ["workflow_run_id", "n", "began"]
    assert {run: int(n) for run, n, _ in rows} == counts


def test_what_was_written_into_the_history_cannot_steer_the_terminal(look: Call) -> None:
    found = look("sql", "SELECT message FROM attempts WHERE outcome = 'failed'")
    assert "no page" in found.out
    assert "\x1b" not in found.out


def test_a_query_cannot_leave_the_datasets_or_write(look: Call, prepared: Prepared, tmp_path: Path) -> None:
    before = sorted(prepared.storage.rglob("*.parquet"))
    for query in (
        f"SELECT * FROM read_blob('{prepared.storage}/resources.sqlite')",
        "SELECT * FROM read_text('/etc/passwd')",
        f"COPY events TO '{tmp_path}/out.parquet'",
        f"WITH t AS (COPY (SELECT 1) TO '{prepared.storage}/events/x.parquet') SELECT 1",
    ):
        found = look("sql", query)
        assert (found.code, found.out) == (2, "")
        assert found.err.startswith("wonder: ")
        assert query in found.err
    assert sorted(prepared.storage.rglob("*.parquet")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_can_be_printed(look: Call, name: str) -> None:
    found = look("report", name, "--run", FAILED)
    assert (found.code, found.err) == (0, "")
    as_json = look("report", name, "--run", FAILED, "--json").lines
    assert len(as_json) == len(found.out.splitlines()) - 1 > 0
    assert list(as_json[0]) == found.out.splitlines()[0].split()


def test_reports_are_of_the_runs_that_are_named(look: Call) -> None:
    assert "nothing to report" in look("report", "critical-path").err  # the latest run has ended no step yet
    assert {row["workflow_run_id"] for row in look("report", "critical-path", "--run", FAILED[:18], "--json").lines} == {FAILED}
    assert [row["runs"] for row in look("report", "cost", "--run", COMPLETED, "--json").lines] == [1, 1]
    assert [row["runs"] for row in look("report", "cost", "--since", "2024-12-01", "--json").lines] == []
    nothing = look("report", "cost", "--workflow", "other")
    assert (nothing.code, nothing.err) == (0, "wonder: there is nothing to report on\n")


def test_what_cannot_be_answered_is_told_in_one_message(look: Call, wonder: Call, tmp_path: Path) -> None:
    wrong = look("report", "costs")
    assert (wrong.code, wrong.out) == (2, "")
    assert "there are cost, queue, retries, fanout, critical-path" in wrong.err
    both = look("sql", "SELECT 1", "--json", "--csv")
    assert (both.code, both.err) == (2, "wonder: --json and --csv: give one of them\n")
    nowhere = wonder("sql", "SELECT 1", "--storage", tmp_path / "nowhere")
    assert nowhere.code == 2
    assert "is it the right storage folder?" in nowhere.err
    assert not (tmp_path / "nowhere").exists()
