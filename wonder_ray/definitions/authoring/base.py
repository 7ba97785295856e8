"""What the builder's methods share: the settings that nodes have in common, and how models are made of them.

>>> schema_of(bool, "node 'approve', answer")
{'type': 'boolean'}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, cast

from pydantic import PydanticUserError, TypeAdapter

from wonder_ray.definitions import models
from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.definitions.making import make
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.executor.registry import Action, ActionOptions
    from wonder_ray.executor.secrets import Secret

Runnable: TypeAlias = "Action[..., Any] | Callable[..., Any] | str"
"""An action, a plain function, or 'module:qualname'."""
Given: TypeAlias = "Mapping[str, str | Secret]"
"""Parameter -> expression, or the secret that it takes."""
Retries: TypeAlias = "models.Retry | Sequence[models.Retry]"
Names: TypeAlias = "str | Sequence[str]"
Schema: TypeAlias = object
"""What has a JSON Schema: a pydantic model, a type (`bool`, `Literal["yes", "no"]`, `list[str]`), or the schema itself."""


class NodeSettings(TypedDict, total=False):
    """What every kind of node takes, as keyword arguments.

    Fields:
        guard: The condition under which a token may start here; looked at again whenever the context changes.
        concurrency_key: An expression; tokens of the run that have the same value never run at the same time.
        concurrency_limit: How many of them may run at the same time, 1 by default.
        mutex: Names that are held from here on, for as long as the nodes that follow name them, too.
    """

    guard: str
    concurrency_key: str
    concurrency_limit: int
    mutex: Names


class ResourceSettings(TypedDict, total=False):
    """What a node may ask of Ray, as keyword arguments; the names and units are Ray's own (memory in bytes)."""

    num_cpus: float
    num_gpus: float
    memory: int
    resources: Mapping[str, float]
    label_selector: Mapping[str, str]
    runtime_env: Mapping[str, Any]


def texts(given: Given | None) -> dict[str, str]:
    """The expressions; a secret is the literal that refers to it.

    >>> from wonder_ray.executor.secrets import Secret
    >>> texts({"url": "input.url", "key": Secret("openai")})
    {'url': 'input.url', 'key': "'secret://openai'"}
    """
    return {name: what if isinstance(what, str) else f"'{what}'" for name, what in (given or {}).items()}


_RESOURCES: Final = tuple(ResourceSettings.__annotations__)


class Draft:
    """What has been added to a workflow so far."""

    def __init__(self) -> None:
        self._nodes: list[models.Node] = []
        self._transitions: list[models.Transition] = []
        self._start: list[str] = []
        self._actions: dict[str, Action[..., Any]] = {}

    def _add(
        self,
        kind: type[models.NodeBase],
        id: str,  # noqa: A002 - the field's name
        fields: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        start: bool,
    ) -> str:
        """Add a node of this kind; `settings` are common ones, and fields that are left out when they are None."""
        where = f"node {id!r}"
        _refuse_unknown(where, settings, kind)
        said = {name: value for name, value in settings.items() if value is not None}
        if "mutex" in said:
            said["mutex"] = names(said["mutex"])
        node = make(kind, where, {"id": id, **fields, **said})
        self._nodes.append(cast("models.Node", node))
        if start:
            self._start.append(node.id)
        return node.id

    def _known(self, action: Runnable, where: str) -> Action[..., Any] | None:
        """The action behind it, remembered; None for a name, whose function is not at hand."""
        if isinstance(action, str):
            return None
        known = as_action(action, where)
        other = self._actions.setdefault(str(known.ref), known)
        if other.fn is not known.fn:
            msg = f"{where}: two functions travel by value under the name {known.name!r}; name one of them with @action(name=...)"
            raise DefinitionError(msg)
        return known


def as_action(action: Any, where: str) -> Action[..., Any]:
    """The action that a function is; an error names the place."""
    from wonder_ray.executor.registry import as_action as made  # writing a definition in names only does not need it

    try:
        return made(action)
    except DefinitionError as error:
        msg = f"{where}: {error}"
        raise DefinitionError(msg) from None


def reference(action: Runnable, known: Action[..., Any] | None) -> str:
    """What a definition calls an action."""
    return str(known.ref) if known is not None else cast("str", action)


def schema_of(given: Schema, where: str) -> dict[str, Any] | None:
    """The JSON Schema of what was given as one; None for None, which accepts anything."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return dict(given)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", given))
        return adapter.json_schema()
    except (PydanticUserError, NameError):
        what = given.__name__ if isinstance(given, type) else repr(given)[:80]
        msg = f"{where}: {what} has no JSON Schema; give a pydantic model, a type such as bool or list[str], a schema, or nothing"
        raise DefinitionError(msg) from None


def names(given: Names) -> tuple[str, ...]:
    """One name or several."""
    return (given,) if isinstance(given, str) else tuple(given)


def retries(given: Retries | None) -> tuple[models.Retry, ...]:
    """One rule or several."""
    if given is None:
        return ()
    return (given,) if isinstance(given, models.Retry) else tuple(given)


def resources(where: str, options: ActionOptions | None, own: Mapping[str, Any]) -> models.Resources:
    """What a task asks of Ray: its own settings, and of its action's those that it does not have itself."""
    said = {name: getattr(options, name, None) for name in _RESOURCES} | dict(own)
    return make(models.Resources, where, {name: value for name, value in said.items() if value is not None})


def divided(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of a task: what is asked of Ray, and all others."""
    asked = {name: value for name, value in settings.items() if name in _RESOURCES}
    return asked, {name: value for name, value in settings.items() if name not in _RESOURCES}


def _refuse_unknown(where: str, given: Mapping[str, Any], kind: type[models.NodeBase]) -> None:
    """Raise a `DefinitionError` for a keyword argument that there is not; Python itself takes any."""
    fields = [name for name in kind.model_fields if name not in ("id", "kind")]
    for name in given:
        if name not in fields:
            known = [*fields, "start", *(_RESOURCES if issubclass(kind, models.TaskNode) else ())]
            msg = f"{where}: unknown setting {name!r}; {did_you_mean(name, known)}"
            raise DefinitionError(msg)
