"""What the OpenAPI document allows (and much that it does not), sent: no error of the server, no answer it does not tell of."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from tests.http.test_access import EVERYWHERE, OPEN, ids
from tests.http.world import Api
from wonder_ray.http import Limits
from wonder_ray.http.app import create_app

schemathesis.checks.load_all_checks()
CHECKS: Final[Any] = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
]
EXAMPLES: Final = 6
"""Of each endpoint, half of them invalid: what a change breaks is found in the first few, if at all."""


def operations() -> list[tuple[str, str]]:
    document = create_app(None, None).openapi()  # type: ignore[arg-type] # neither is used for that
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


class Held(NamedTuple):
    """The API for all examples, and its document."""

    api: Api
    document: Any
    everywhere: str
    """An API key for all workspaces."""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    api = Api(tmp_path_factory.mktemp("storage"), Limits(stream_s=0.01))
    everywhere = api.new_key("admin", workspace=None)
    return Held(api, schemathesis.openapi.from_asgi("/openapi.json", api.app), everywhere)


@pytest.mark.parametrize("operation", operations(), ids=ids)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_the_api_keeps_to_its_document(held: Held, operation: tuple[str, str], data: st.DataObject) -> None:
    method, path = operation
    mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    try:
        strategy = held.document[path][method].as_strategy(generation_mode=mode)
        case = data.draw(strategy)
    except schemathesis.errors.SchemathesisError:  # there is nothing that it does not allow
        case = data.draw(held.document[path][method].as_strategy())
    if data.draw(st.sampled_from([True, True, False])):  # so that what comes after the path and the key is looked at, too
        case.path_parameters = {name: {"run": held.api.start()}.get(name, "approval") for name in case.path_parameters or {}}
        case.headers = {name: value for name, value in (case.headers or {}).items() if name != "Wonder-Workspace"}
    headers = {} if path in OPEN else {"Authorization": f"Bearer {held.everywhere if operation in EVERYWHERE else held.api.key}"}
    answer = case.call(headers=headers)
    assert answer.status_code < 500, answer.text
    case.validate_response(answer, checks=CHECKS)


def test_an_answer_that_the_document_does_not_tell_of_is_found(held: Held) -> None:
    """The check can fail: with a document that lacks the 404."""
    bare = held.api.call("GET", "/openapi.json", key="").json()
    del bare["paths"]["/v1/runs/{run}"]["get"]["responses"]["404"]
    document = schemathesis.openapi.from_dict(bare)
    document.app = held.api.app
    case = document["/v1/runs/{run}"]["GET"].Case(path_parameters={"run": "run_0"})
    answer = case.call(base_url="http://testserver", headers={"Authorization": f"Bearer {held.api.key}"})
    with pytest.raises(BaseExceptionGroup, match="Undocumented status code"):
        case.validate_response(answer, checks=CHECKS)
