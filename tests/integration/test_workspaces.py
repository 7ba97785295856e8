"""Clients of different workspaces on one cluster: they share services and see nothing of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import SECONDS
from wonder_ray.client import connect
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import DefinitionError, NotFoundError

if TYPE_CHECKING:
    from wonder_ray.client import Client


def squares(actions: Any) -> Workflow:
    flow = Workflow("squares-of-a-team", output={"n": "state.n"})
    flow.node("square", actions.square, input={"n": "input.n"}, output={"state.n": "result"})
    return flow


def test_a_client_starts_and_finds_runs_in_its_workspace(client: Client, actions: Any) -> None:
    client.admin.create_workspace("team")
    client.admin.create_project("search", workspace_id="team")
    mine = client.start(squares(actions), {"n": 2}, key="shared")
    with connect(storage=client.storage.root, workspace="team", project="search") as team:
        theirs = team.start(squares(actions), {"n": 3}, key="shared", labels={"of": "the team"})
        assert (mine.result(SECONDS), theirs.result(SECONDS)) == ({"n": 4}, {"n": 9})
        assert [run.run_id for run in team.runs(labels={"of": "the team"})] == [theirs.id]
        assert team.run("latest").id == theirs.id
        record = theirs.record()
        assert (record.workspace_id, record.project_id) == ("team", "search")
        assert {row.workspace_id for row in theirs.events()} == {"team"}
    assert theirs.id not in {run.run_id for run in client.runs(limit=1000)}
    with pytest.raises(DefinitionError, match="not registered in workspace 'default'"):
        client.start("squares-of-nobody", {"n": 1})


def test_a_workspace_that_is_not_there_is_told(client: Client, actions: Any) -> None:
    gone = connect(storage=client.storage.root, workspace="gone")
    with pytest.raises(NotFoundError, match="no workspace 'gone'"):
        gone.start(squares(actions), {"n": 1})
