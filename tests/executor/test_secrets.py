"""Canaries: what an action does with a secret is never seen outside of it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import sys
from typing import TYPE_CHECKING, Any, Optional

import pytest

from wonder_ray.bundles.loader import BundleLoader
from wonder_ray.errors import ActionError, InputError, SecretError, WonderError
from wonder_ray.executor.protocol import ActionRef, Call, Outcome, StepSpec, TaskSpec
from wonder_ray.executor.runner import run_calls
from wonder_ray.executor.secrets import Secret, Vault, secret_parameters, secret_values, with_secrets
from wonder_ray.logs.client import LogClient
from wonder_ray.redaction import Redactor
from wonder_ray.resources.access_records import SecretGrant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.logs.record import LogLine

CANARY = "canary-2f6c7e1b-ä-90"
MASK = "[secret:openai]"


class Registry:
    """Grants the canary, and counts how often it is asked."""

    def __init__(self, **grants: SecretGrant) -> None:
        self.grants = {"openai": SecretGrant(name="openai", provider="stored", value=CANARY)} | grants
        self.asked: list[str] = []

    def grant(self, name: str) -> SecretGrant:
        self.asked.append(name)
        if name not in self.grants:
            raise SecretError(f"there is no secret {name!r} in workspace 'default'")
        return self.grants[name]


class Loader:
    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._functions = {fn.__name__: fn for fn in functions}

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        return self._functions[name]


def run(
    *functions: Callable[..., Any], values: list[Any] | None = None, registry: Registry | None = None, **spec: Any
) -> tuple[list[Outcome], list[LogLine]]:
    """The outcomes and the lines of one task."""
    lines: list[LogLine] = []
    redactor = Redactor()
    log = LogClient(lines.extend, "executor", hide=redactor.text)
    task = TaskSpec(
        run_id="r", workflow_name="w", node_id="n", epoch=1, storage="",
        **{"action": ActionRef(functions[0].__name__, None, pickled=True)} | spec,
    )  # fmt: skip
    given = [{"key": "secret://openai"}] if values is None else values
    calls = [Call(f"t{number}", 1, f"r/t{number}", json.dumps(value).encode()) for number, value in enumerate(given)]
    vault = Vault((registry or Registry()).grant, redactor)
    outcomes = run_calls(task, calls, loader=Loader(*functions), log=log, vault=vault)
    log.close()
    return outcomes, lines


def fail(error: Exception) -> None:
    raise error


def shown(outcomes: list[Outcome], lines: list[LogLine]) -> str:
    return f"{outcomes} {lines}"


def test_an_action_gets_the_value_and_its_result_hides_it() -> None:
    def use(key: Secret) -> dict[str, Any]:
        value = key.reveal()
        assert value == CANARY
        basic = base64.b64encode(f"me:{value}".encode()).decode()
        return {"plain": value, value: [f"Bearer {value}"], "basic": basic, "hex": value.encode().hex(), "itself": key, "n": 1}

    (outcome,), lines = run(use)
    assert outcome.error is None
    result = json.loads(outcome.result or b"")
    assert result["plain"] == MASK
    assert result[MASK] == [f"Bearer {MASK}"]
    assert MASK in result["basic"]
    assert (result["hex"], result["itself"], result["n"]) == (MASK, "secret://openai", 1)
    assert CANARY not in shown([outcome], lines)


@pytest.mark.parametrize("long", [0, 5_000, 40_000])
def test_what_is_raised_hides_it_in_type_message_and_stack(long: int) -> None:
    def use(key: Secret) -> None:
        value = key.reveal()
        try:
            fail(KeyError(value))
        except KeyError:
            raise ActionError(f"Refused {value}", "x" * long + f" {value} was refused, {value}") from None

    (outcome,), lines = run(use)
    assert outcome.error is not None
    assert outcome.error.type == f"Refused {MASK}"
    assert CANARY not in shown([outcome], lines)
    assert CANARY[:8] not in shown([outcome], lines)


def test_a_chain_of_errors_hides_it() -> None:
    def use(key: Secret) -> None:
        try:
            fail(ValueError(key.reveal()))
        except ValueError as error:
            raise RuntimeError("while asking") from error

    (outcome,), lines = run(use)
    assert outcome.error is not None
    assert MASK in (outcome.error.stack or "")
    assert CANARY not in shown([outcome], lines)


def test_what_is_printed_and_logged_hides_it() -> None:
    def use(key: Secret) -> None:
        value = key.reveal()
        print("key:", value)  # noqa: T201 - as actions do
        print(value[:7], end="")  # noqa: T201 - as actions do
        print(value[7:])  # noqa: T201 - as actions do
        sys.stderr.write(f"{value}\n")
        sys.stdout.buffer.write(value.encode() + b"\n")
        logging.getLogger("client").warning("with %s", value, extra={"headers": {"Authorization": value}})
        try:
            fail(ValueError(value))
        except ValueError:
            logging.getLogger("client").exception("failed")
        print("x" * 8_185 + value)  # noqa: T201 - as actions do
        print("y" * 30_000 + value)  # noqa: T201 - as actions do

    (outcome,), lines = run(use)
    assert outcome.error is None
    kinds = [line.event_type for line in lines]
    assert kinds.count("stdout") == 5
    assert kinds.count("stderr") == 1
    assert kinds.count("log") == 2
    assert sum(MASK in str(line) for line in lines) >= 6
    text = shown([outcome], lines)
    assert CANARY not in text
    assert CANARY[:7] not in text, "not even the part that a limit leaves"
    assert max(len(line.message) for line in lines) < 8_300


def test_a_later_task_of_the_process_hides_what_an_earlier_one_revealed() -> None:
    kept: list[str] = []

    def keep(key: Secret) -> None:
        kept.append(key.reveal())

    def give() -> str:
        return kept[0]

    redactor = Redactor()
    for fn, value in ((keep, {"key": "secret://openai"}), (give, {})):
        spec = TaskSpec(
            run_id="r", workflow_name="w", node_id="n", epoch=1, storage="", action=ActionRef(fn.__name__, None, pickled=True)
        )
        vault = Vault(Registry().grant, redactor)
        (outcome,) = run_calls(spec, [Call("t", 1, "r/t", json.dumps(value).encode())], loader=Loader(fn), vault=vault)
    assert outcome.result == json.dumps(MASK).encode()


def test_steps_take_secrets_and_hide_them() -> None:
    def first(key: Secret) -> str:
        return key.reveal()

    def second(text: str) -> str:
        assert text == CANARY, "within its own task a value is what it is"
        raise ValueError(text)

    steps = [
        StepSpec("first", ActionRef("first", None, pickled=True), input={"key": "input.key"}, output={"state.key": "result"}),
        StepSpec("second", ActionRef("second", None, pickled=True), input={"text": "state.key"}, on_failure="continue"),
        StepSpec("third", ActionRef("first", None, pickled=True), input={"key": "input.key"}, output={"output.key": "result"}),
        StepSpec("fourth", ActionRef("first", None, pickled=True), input={"key": "state.key.nothing + 1"}, on_failure="continue"),
    ]
    (outcome,), lines = run(first, second, action=None, steps=steps)
    assert json.loads(outcome.result or b"") == {"key": MASK}
    assert "step_failed" in [line.event_type for line in lines]
    assert CANARY not in shown([outcome], lines)


def test_async_actions_reveal_too() -> None:
    async def use(key: Secret) -> str:
        await asyncio.sleep(0)
        return await asyncio.to_thread(key.reveal)

    outcomes, _ = run(use, values=[{"key": "secret://openai"}] * 3)
    assert [outcome.result for outcome in outcomes] == [json.dumps(MASK).encode()] * 3


def test_the_registry_is_asked_once_per_task_and_only_when_it_has_to_be() -> None:
    def use(key: Secret, *, reveal: bool) -> None:
        if reveal:
            key.reveal()

    registry = Registry()
    run(use, values=[{"key": "secret://openai", "reveal": False}], registry=registry)
    assert registry.asked == []
    run(use, values=[{"key": "secret://openai", "reveal": True}] * 5, registry=registry)
    assert registry.asked == ["openai"]


def test_a_secret_is_also_had_by_its_name_alone() -> None:
    def use() -> str:
        return Secret("openai").reveal()

    (outcome,), _ = run(use, values=[{}])
    assert outcome.result == json.dumps(MASK).encode()


def test_only_a_parameter_that_says_so_is_given_a_secret() -> None:
    """Else whoever controls a text could have any secret put into it."""

    def use(url: str, key: Secret | None = None) -> list[object]:
        return [url, type(key).__name__]

    (outcome, other), _ = run(use, values=[{"url": "secret://openai"}, {"url": "x", "key": None}])
    assert outcome.result == b'["secret://openai","NoneType"]'
    assert other.result == b'["x","NoneType"]'


def test_a_value_in_the_place_of_a_reference_is_refused_and_not_quoted() -> None:
    def use(key: Secret) -> None:
        """Never called."""

    for value in (CANARY, 5, {"a": CANARY}, ""):
        (outcome,), lines = run(use, values=[{"key": value}])
        assert outcome.error is not None
        assert (outcome.error.type, outcome.error.retryable) == ("InputError", False)
        assert "takes a secret" in outcome.error.message
        assert CANARY not in shown([outcome], lines)


def test_a_secret_that_cannot_be_had_fails_its_action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "x")
    grants = {
        "unset": SecretGrant(name="unset", provider="env", location="CANARY_THAT_IS_NOT_SET"),
        "lost": SecretGrant(name="lost", provider="file", location=str(tmp_path / "gone")),
        "binary": SecretGrant(name="binary", provider="file", location=sys.executable),
        "short": SecretGrant(name="short", provider="env", location="SHORT"),
    }

    def use(key: Secret) -> str:
        return key.reveal()

    for name, what in (
        ("gone", "no secret 'gone'"),
        ("unset", "no environment variable"),
        ("lost", "cannot be read"),
        ("binary", "cannot be read"),
        ("short", "fewer than 8"),
    ):
        (outcome,), _ = run(use, values=[{"key": f"secret://{name}"}], registry=Registry(**grants))
        assert outcome.error is not None
        assert (outcome.error.type, outcome.error.kind, outcome.error.retryable) == ("SecretError", "code", False), outcome.error
        assert what in outcome.error.message


def test_a_registry_that_is_away_is_worth_another_attempt() -> None:
    class Away(Registry):
        def grant(self, name: str) -> SecretGrant:
            error = SecretError("the registry did not answer")
            error.retryable = True
            raise error

    def use(key: Secret) -> str:
        return key.reveal()

    (outcome,), _ = run(use, registry=Away())
    assert outcome.error is not None
    assert outcome.error.retryable


def test_values_of_the_environment_and_of_files_are_hidden_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_KEY", CANARY)
    (tmp_path / "key").write_text(f"{CANARY}\n")
    registry = Registry(
        env=SecretGrant(name="env", provider="env", location="OPENAI_KEY"),
        file=SecretGrant(name="file", provider="file", location=str(tmp_path / "key")),
    )

    def use(one: Secret, two: Secret) -> list[bool | str]:
        return [one.reveal() == two.reveal() == CANARY, one.reveal()]

    (outcome,), _ = run(use, values=[{"one": "secret://env", "two": "secret://file"}], registry=registry)
    assert outcome.result == b'[true,"[secret:env]"]'


def test_a_secret_shows_its_name_only() -> None:
    secret = Secret("secret://openai")
    with secret_values({"openai": CANARY}):
        assert secret.reveal() == CANARY
        assert (repr(secret), str(secret), f"{secret}") == ("Secret('openai')", "secret://openai", "secret://openai")
        assert CANARY.encode() not in pickle.dumps(secret)
        assert pickle.loads(pickle.dumps(secret)) == secret == Secret("openai")
        with pytest.raises(SecretError, match="gives no secret"):
            Secret("other").reveal()
    with pytest.raises(SecretError, match="inside of actions"):
        secret.reveal()
    for name in ("", "a b", "secret://", "../x"):
        with pytest.raises(WonderError, match="not a name"):
            Secret(name)


def test_annotations_are_understood_however_they_are_written() -> None:
    def plain(a: Secret, b: str, c: Secret | None, d: Optional[Secret] = None, *, e: Secret) -> None: ...  # noqa: UP045 - as users write
    def texts(a: str) -> None: ...

    texts.__annotations__ = {"a": "wonder.Secret | None"}
    assert secret_parameters(plain) == {"a", "c", "d", "e"}
    assert secret_parameters(texts) == {"a"}
    assert secret_parameters(print) == secret_parameters(len) == frozenset()


def test_a_callable_that_cannot_be_hashed_takes_secrets_too() -> None:
    class Use:
        __hash__ = None  # type: ignore[assignment] # as of classes with an __eq__

        def __call__(self, key: Secret) -> None: ...

    assert with_secrets("use", Use(), {"key": "secret://openai"}) == {"key": Secret("openai")}
    with pytest.raises(InputError):
        with_secrets("use", Use(), {"key": "value"})


def test_a_task_without_a_vault_runs_as_ever() -> None:
    spec = TaskSpec(
        run_id="r", workflow_name="w", node_id="n", epoch=1, action=ActionRef("len", "builtins:len"), storage="", call="single"
    )
    assert run_calls(spec, [Call("t", 1, "r/t", b"[1]")], loader=BundleLoader("."))[0].result == b"1"
