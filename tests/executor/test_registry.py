from __future__ import annotations

import functools
import json
import types
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.definitions.models import Retry
from wonder_ray.errors import DefinitionError
from wonder_ray.executor.protocol import ActionRef
from wonder_ray.executor.registry import Action, action, as_action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@action
def plain(n: int, *, times: int = 2) -> int:
    """Multiply."""
    return n * times


@action(name="other-name", retry=Retry(max_attempts=3), timeout_s=5, num_cpus=2, resources={"disk": 1}, batch=False)
async def with_options(n: int) -> int:
    return n


def test_an_action_is_still_the_function() -> None:
    assert plain(2, times=5) == 10
    assert (plain.name, plain.__doc__) == ("plain", "Multiply.")
    assert list(plain.signature.parameters) == ["n", "times"]
    assert not plain.is_async


def test_options_are_kept_as_given() -> None:
    options = with_options.options
    assert (with_options.name, with_options.is_async) == ("other-name", True)
    assert options.retry == Retry(max_attempts=3)
    assert (options.timeout_s, options.num_cpus, options.resources, options.batch) == (5, 2, {"disk": 1}, False)
    assert (options.num_gpus, options.memory, options.runtime_env, options.label_selector) == (None, None, None, None)


def test_a_function_of_a_module_is_referred_to_by_its_place() -> None:
    assert plain.ref.name == "plain"
    assert plain.ref.target is not None
    assert plain.ref.target.endswith("test_registry:plain")
    assert not plain.ref.pickled
    assert as_action(json.dumps).ref == ActionRef("dumps", "json:dumps")


def test_functions_that_cannot_be_imported_are_marked() -> None:
    def local() -> None: ...

    unreal = types.ModuleType("made_up")
    exec("def made(): pass", unreal.__dict__)
    anonymous: Action[[], int] = action(name="one")(lambda: 1)
    assert [as_action(fn).ref for fn in (local, anonymous, unreal.made)] == [
        ActionRef("local", None, pickled=True),
        ActionRef("one", None, pickled=True),
        ActionRef("made", None, pickled=True),
    ]


def test_as_action_leaves_actions_alone() -> None:
    assert as_action(plain) is plain


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class SomeClass:
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (generator, "generator is a generator"),
        (async_generator, "is a generator"),
        (SomeClass, "SomeClass is a class"),
        (SomeClass().method, "is a method"),
        (staticmethod(generator), "method|generator"),
        (3, r"3 \(int\) is not callable"),
        (functools.partial(print), "callable object"),
        (plain, "action already"),
        (lambda: 1, "lambda has no name"),
    ],
)
def test_what_is_no_function_is_refused_with_advice(thing: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        action(thing)


def test_names_and_options_are_checked() -> None:
    with pytest.raises(DefinitionError, match="is not a name"):
        action(name="a b")(plain.fn)
    with pytest.raises(TypeError, match="num_cpu"):
        action(num_cpu=1)  # type: ignore[call-overload] # what is tested


@pytest.mark.parametrize("text", ["flow:fetch", "pkg.mod:Outer.inner", "pickled-name"])
def test_references_are_written_and_read_back(text: str) -> None:
    assert str(ActionRef.parse(text)) == text
    assert ActionRef.parse(text).pickled == (":" not in text)
