"""Secrets in user code: known by name everywhere, by value only inside of an action that asks for it.

A parameter that is annotated with `Secret` takes a reference (`secret://name`) and gives the action a `Secret`; without a
parameter, `Secret("name")` does. What is revealed in a process is hidden in everything that leaves it: results, errors, lines
of output.

>>> with secret_values({"openai": "sk-12345678"}):
...     token = Secret("openai")
...     token.reveal()
'sk-12345678'
>>> token, str(token)
(Secret('openai'), 'secret://openai')
"""

from __future__ import annotations

import inspect
import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

from wonder_ray.errors import InputError, SecretError
from wonder_ray.ids import check_name
from wonder_ray.redaction import SECRET_BYTES_MAX, Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SCHEME: Final = "secret://"
_ANNOTATION: Final = re.compile(r"\bSecret\b")


class Granted(Protocol):
    """What the registry says of a secret: its value, or where this process finds that."""

    @property
    def provider(self) -> str: ...  # noqa: D102 - see SecretGrant

    @property
    def location(self) -> str | None: ...  # noqa: D102 - see SecretGrant

    @property
    def value(self) -> str | None: ...  # noqa: D102 - see SecretGrant


class Vault:
    """The secrets that one task may use: asks for each at most once, and has what it gives out hidden.

    Args:
        ask: Asks the registry for a secret, by name; a `SecretError` when the run may not have it.
        redactor: Hides what is given out, for as long as the process lives.

    Attributes:
        redactor: The same.
    """

    def __init__(self, ask: Callable[[str], Granted], redactor: Redactor) -> None:
        self._ask = ask
        self.redactor: Final = redactor
        self._values: dict[str, str] = {}

    def reveal(self, name: str) -> str:
        """The value of a secret."""
        if name not in self._values:
            value = _found(name, self._ask(name))
            self.redactor.add(name, value)
            self._values[name] = value
        return self._values[name]


class Secret:
    """A secret of the run's workspace, by name.

    Args:
        name: Its name, or its reference.

    Example:
        >>> def ask(question: str, key: Secret) -> str:  # in the node: input={"key": "'secret://openai'"}
        ...     return client(key.reveal()).ask(question)  # doctest: +SKIP
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: Final = check_name(name.removeprefix(SCHEME), "secret")

    @property
    def reference(self) -> str:
        """How inputs and results name it."""
        return SCHEME + self.name

    def reveal(self) -> str:
        """The value, inside of an action.

        Raises:
            SecretError: The run's workspace has no such secret, its value cannot be found, or this is no action.
        """
        vault = _vault.get()
        if vault is None:
            raise SecretError(f"secret {self.name!r}: values are known inside of actions only; in a test, use `secret_values`")
        return vault.reveal(self.name)

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __str__(self) -> str:
        return self.reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))


_vault: ContextVar[Vault | None] = ContextVar("wonder_secrets", default=None)


@contextmanager
def opened(vault: Vault | None) -> Iterator[None]:
    """Let `Secret.reveal` ask this vault."""
    token = _vault.set(vault)
    try:
        yield
    finally:
        _vault.reset(token)


@contextmanager
def secret_values(values: Mapping[str, str]) -> Iterator[None]:
    """For tests of actions: what `Secret.reveal` gives within the block."""

    class Given:
        provider = "stored"
        location = None

        def __init__(self, name: str) -> None:
            if name not in values:
                raise SecretError(f"the test gives no secret {name!r}")
            self.value = values[name]

    with opened(Vault(Given, Redactor())):
        yield


def with_secrets(what: object, fn: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with a `Secret` where the function wants one; `what` names the action in errors."""
    try:
        wanted = secret_parameters(fn)
    except TypeError:  # a callable that cannot be hashed
        wanted = secret_parameters.__wrapped__(fn)
    if wanted.isdisjoint(arguments):
        return arguments
    return arguments | {name: _secret_of(what, name, arguments[name]) for name in wanted if arguments.get(name) is not None}


@lru_cache(maxsize=1024)
def secret_parameters(fn: Callable[..., Any]) -> frozenset[str]:
    """The parameters that are annotated with `Secret`, also by its name in a text or beside `None`."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a function of a C library that does not tell
        return frozenset()
    return frozenset(parameter.name for parameter in parameters if _wants_secret(parameter.annotation))


def _wants_secret(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _ANNOTATION.search(annotation) is not None
    return annotation is Secret or Secret in get_args(annotation)


def _secret_of(what: object, name: str, given: Any) -> Secret:
    if isinstance(given, Secret):
        return given
    if not isinstance(given, str) or not given.startswith(SCHEME):  # not quoted: somebody may have put the value itself there
        raise InputError(f"{what}: parameter {name!r} takes a secret: its input has to be a reference, `'{SCHEME}...'`")
    return Secret(given)


def _found(name: str, granted: Granted) -> str:
    if granted.value is not None:
        return granted.value
    place = granted.location or ""
    if granted.provider == "env":
        value = os.environ.get(place)
        if value is None:
            raise SecretError(
                f"secret {name!r}: there is no environment variable {place} where this task runs: set it on all nodes"
            )
        return value
    try:
        with open(place, encoding="utf-8") as file:  # noqa: PTH123 - a path of another machine's making
            value = file.read(SECRET_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"secret {name!r}: {place} cannot be read where this task runs: {error}") from None
    return value.removesuffix("\n")
