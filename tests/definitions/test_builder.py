"""The builder, from what a user writes to what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from wonder_ray.definitions import models
from wonder_ray.definitions.builder import Workflow, step
from wonder_ray.definitions.joins import INCOMING, All, Any, Append, Concat, KeyedByBranch, LastWins, MergeObject, MOfN
from wonder_ray.definitions.models import Merge, Retry
from wonder_ray.errors import DefinitionError
from wonder_ray.executor.registry import action

if TYPE_CHECKING:
    from collections.abc import Callable


class Lock:
    """Nothing that JSON could hold."""


class CrawlInput(BaseModel):
    site: str
    depth: int = 1


def list_urls(site: str) -> list[str]:
    return [site]


@action(retry=Retry(max_attempts=3), num_cpus=2, timeout_s=30)
def fetch(url: str, *, depth: int = 1) -> dict[str, str]:
    return {"url": url}


def report(pages: list[dict[str, str]], **options: str) -> str:
    return f"{len(pages)} pages"


def crawl() -> Workflow:
    flow = Workflow("crawl", input=CrawlInput, output={"pages": "state.pages"})
    flow.node("list", list_urls, input={"site": "input.site"}, output={"state.urls": "result"})
    flow.node("fetch", fetch, input={"url": "item"})
    flow.node("report", report, input={"pages": "state.pages"})
    flow.transition("list", "fetch", foreach="state.urls", group="pages", max_concurrency=100)
    flow.transition("fetch", "report", join=All("pages", merge=Append("state.pages")))
    return flow


def node_of(definition: models.WorkflowDefinition, node: str) -> models.ActionNode:
    found = next(each for each in definition.nodes if each.id == node)
    assert isinstance(found, models.ActionNode)
    return found


def test_the_example_of_the_design_is_a_sound_workflow() -> None:
    flow = crawl()
    definition = flow.definition()
    assert [node.id for node in definition.nodes] == ["list", "fetch", "report"]
    assert definition.input is not None
    assert definition.input["required"] == ["site"]
    fan_out, fan_in = definition.transitions
    assert (fan_out.foreach, fan_out.group, fan_out.max_concurrency) == ("state.urls", "pages", 100)
    assert fan_in.join is not None
    assert fan_in.join.merge == (Merge(target="state.pages", source="result", strategy="append"),)
    assert flow.problems() == []


def test_action_options_are_inherited_and_node_settings_win() -> None:
    flow = Workflow("w")
    flow.node("inherits", fetch, input={"url": "input"})
    flow.node("decides", fetch, input={"url": "input"}, retry=[], timeout_s=5, num_cpus=1, num_gpus=1, batch=False)
    definition = flow.definition()
    inherits, decides = node_of(definition, "inherits"), node_of(definition, "decides")
    assert (inherits.retry, inherits.timeout_s, inherits.resources.num_cpus) == ((Retry(max_attempts=3),), 30, 2)
    assert (decides.retry, decides.timeout_s, decides.resources.num_cpus, decides.resources.num_gpus) == ((), 5, 1, 1)
    assert inherits.batch
    assert not decides.batch


def test_actions_are_listed_once_in_the_order_of_their_use() -> None:
    flow = crawl()
    flow.node("again", fetch, input={"url": "input.site"})
    flow.steps(
        "prep", [step("load", list_urls, input={"site": "input.site"}), step("tidy", len_of, input={"text": "state.text"})]
    )
    assert [each.name for each in flow.actions] == ["list_urls", "fetch", "report", "len_of"]


def len_of(text: str) -> int:
    return len(text)


def test_a_function_that_can_be_imported_is_named_and_a_string_is_taken_as_it_is() -> None:
    import json

    flow = Workflow("w")
    flow.node("dump", json.dumps, input={"obj": "input"})
    flow.node("load", "json:loads", input={"s": "input"})
    definition = flow.definition()
    assert node_of(definition, "dump").action == "json:dumps"
    assert node_of(definition, "load").action == "json:loads"


def test_start_nodes_can_be_named() -> None:
    flow = Workflow("w")
    flow.compute("a", start=True)
    flow.node("b", "m:b")
    flow.transition("a", "b")
    flow.transition("b", "a", max_iterations=3)
    assert flow.definition().start == ("a",)


def test_lists_of_sources_and_targets_make_a_transition_each() -> None:
    flow = Workflow("w")
    for name in ("a", "b", "c", "d"):
        flow.compute(name)
    flow.transition(["a", "b"], ["c", "d"])
    found = [(each.source, each.target) for each in flow.definition().transitions]
    assert found == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]


def test_join_and_merge_helpers() -> None:
    assert (All().over, All("g").strategy) == (INCOMING, "all")
    assert Any("g", remaining="cancel").remaining == "cancel"
    join = MOfN("size(state.x) / 2", "g", merge=[Concat("state.a"), KeyedByBranch("state.b", "result.b")], remaining="pass")
    assert (join.strategy, join.m, join.remaining) == ("m_of_n", "size(state.x) / 2", "pass")
    assert [merge.strategy for merge in join.merge] == ["concat", "keyed_by_branch"]
    assert (MergeObject("state.x").strategy, LastWins("state.x").strategy) == ("merge_object", "last_wins")


class TestParameters:
    def test_a_parameter_without_value(self) -> None:
        with pytest.raises(DefinitionError) as raised:
            Workflow("w").node("fetch", fetch)
        name = str(fetch.ref).replace(":", ".")
        assert str(raised.value) == f"node 'fetch': parameter 'url' of {name} gets no value; add input={{\"url\": ...}}"

    def test_an_unknown_parameter(self) -> None:
        with pytest.raises(DefinitionError, match=r"node 'fetch': .*fetch has no parameter 'dept'; did you mean 'depth'\?"):
            Workflow("w").node("fetch", fetch, input={"url": "item", "dept": "1"})

    def test_a_function_that_takes_nothing(self) -> None:
        def nothing() -> None: ...

        with pytest.raises(DefinitionError, match="has no parameter 'x'; it takes none: remove input"):
            Workflow("w").node("a", nothing, input={"x": "1"})

    def test_a_positional_only_parameter(self) -> None:
        def square(x: int, /) -> int:
            return x * x

        with pytest.raises(DefinitionError, match=r"parameter 'x' of .* takes no keyword.*remove the '/'"):
            Workflow("w").node("a", square, input={"x": "1"})

    def test_keyword_collectors_take_any_name(self) -> None:
        Workflow("w").node("report", report, input={"pages": "[]", "colour": "'red'"})

    def test_a_step(self) -> None:
        with pytest.raises(DefinitionError, match="step 'load': parameter 'site' of"):
            step("load", list_urls)


class TestRefusals:
    def test_a_class_is_no_action(self) -> None:
        with pytest.raises(DefinitionError, match="node 'a': CrawlInput is a class"):
            Workflow("w").node("a", CrawlInput)

    def test_an_unknown_setting(self) -> None:
        with pytest.raises(DefinitionError, match=r"node 'a': unknown setting 'num_cpu'; did you mean 'num_cpus'\?"):
            Workflow("w").node("a", "m:a", num_cpu=1)  # type: ignore[call-arg] # the point of the test

    def test_a_wrong_value_names_node_and_field(self) -> None:
        with pytest.raises(DefinitionError, match=r"node 'a', timeout_s: Input should be greater than 0 \(it is -1\)"):
            Workflow("w").node("a", "m:a", timeout_s=-1)
        with pytest.raises(DefinitionError, match=r"transition 'a->b', tolerated_failures: .*such as 0\.25"):
            Workflow("w").transition("a", "b", group="g", tolerated_failures=1.5)

    def test_no_nodes(self) -> None:
        with pytest.raises(DefinitionError, match="workflow 'w' has no nodes; add one"):
            Workflow("w").definition()

    def test_an_input_that_is_no_schema(self) -> None:
        with pytest.raises(DefinitionError, match="workflow input: Lock has no JSON Schema; give a pydantic model, a type such"):
            Workflow("w", input=Lock)
        with pytest.raises(DefinitionError, match="workflow state: 'nonsense' has no JSON Schema"):
            Workflow("w", state="nonsense")

    def test_two_functions_by_value_under_one_name(self) -> None:
        def maker(number: int) -> Callable[[], int]:
            def made() -> int:
                return number

            return made

        flow = Workflow("w")
        flow.node("a", maker(1))
        with pytest.raises(DefinitionError, match=r"node 'b': two functions travel by value under the name 'made'"):
            flow.node("b", maker(2))

    def test_errors_of_the_whole_are_listed_together(self) -> None:
        flow = Workflow("w")
        flow.node("a", "m:a", input={"x": "nope.x"})
        flow.transition("a", "b")
        with pytest.raises(DefinitionError) as raised:
            flow.definition()
        text = str(raised.value)
        assert "workflow 'w' cannot be used, for 2 reasons:" in text
        assert "node 'a', input.x:" in text
        assert "transition 'a->b', to: unknown node 'b'" in text
