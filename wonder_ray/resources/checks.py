"""What the registry takes, and what it refuses before anything is written."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.errors import ActionNotFoundError, DefinitionError, InputError, PayloadError, WonderError
from wonder_ray.ids import check_name, check_run_id
from wonder_ray.redaction import SECRET_BYTES_MAX, SECRET_CHARS_MIN
from wonder_ray.resources.access_records import SCOPES
from wonder_ray.values import check_json, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.resources.records import BundleContent, RunFilter, StartRequest

INPUT_BYTES_MAX: Final = 2 * 1024 * 1024
DEFINITION_BYTES_MAX: Final = 8 * 1024 * 1024
BUNDLE_NAMES_MAX: Final = 100_000
KEY_MAX: Final = 256
LABELS_MAX: Final = 64
LABEL_CHARS_MAX: Final = 256
DESCRIPTION_CHARS_MAX: Final = 2_000
GRACE_S_MAX: Final = 30 * 24 * 3600.0
_INT_MAX: Final = 2**63 - 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def check_start(request: StartRequest) -> None:
    """Raise unless a start is well formed; its input is looked at elsewhere."""
    check_name(request.workspace_id, "workspace")
    check_name(request.project_id, "project")
    check_name(request.workflow_name, "workflow")
    if request.key is not None:
        check_key(request.key)
    for run_id in (request.run_id, request.parent_run_id, request.root_run_id):
        if run_id is not None:
            check_run_id(run_id)
    if not 0 <= request.depth <= _INT_MAX:
        raise WonderError(f"a run cannot be nested {request.depth} deep: 0 is a run that no other has started")
    check_labels(request.labels)
    if request.fork is not None and not isinstance(decode(request.fork), dict):
        raise WonderError("a fork is a JSON object: run_id, sequence, changes")


def decoded_input(request: StartRequest) -> Any:
    """The input of a start; an `InputError` when it is no JSON or too large."""
    where = f"input of workflow {request.workflow_name!r}"
    if (size := len(request.input)) > INPUT_BYTES_MAX:
        raise InputError(f"{where} has {size:,} bytes, more than {INPUT_BYTES_MAX:,}: put the data into a file and pass its name")
    try:
        value = decode(request.input)
        check_json(value)
    except PayloadError as error:
        raise InputError(f"{where}: {error}") from None
    return value


def check_key(key: str) -> None:
    """Raise unless a run may have this key."""
    if not (1 <= len(key) <= KEY_MAX and key.isprintable()):
        raise WonderError(f"key {key[:80]!r} cannot be used: 1 to {KEY_MAX} printable characters")


def check_labels(labels: dict[str, str]) -> None:
    """Raise unless a run may have these labels."""
    if len(labels) > LABELS_MAX or any(len(text) > LABEL_CHARS_MAX for pair in labels.items() for text in pair):
        raise WonderError(f"a run has at most {LABELS_MAX} labels, of at most {LABEL_CHARS_MAX} characters")
    for name, value in labels.items():
        check_text(name, "a label's name", LABEL_CHARS_MAX)
        check_text(value, f"label {name!r}", LABEL_CHARS_MAX)


def check_filter(wanted: RunFilter) -> None:
    """Raise unless runs can be listed so; of what no run can have, none is found."""
    check_name(wanted.workspace_id, "workspace")
    for text in (wanted.project_id, wanted.workflow, wanted.version, wanted.parent_run_id, wanted.root_run_id):
        if text is not None:
            check_text(text, "a filter", KEY_MAX)
    check_labels(wanted.labels)
    check_time(wanted.created_after_us)
    check_time(wanted.created_before_us)


def check_text(text: str, what: str, chars_max: int) -> str:
    """The text itself when every database can store it."""
    if len(text) > chars_max:
        raise WonderError(f"{what} has {len(text):,} characters, more than {chars_max:,}: shorten it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WonderError(f"{what} holds a lone surrogate, which is no character: remove it") from None
    if "\0" in text:
        raise WonderError(f"{what} holds a NUL character: remove it")
    return text


def check_description(text: str) -> str:
    """The description itself when something may have it."""
    return check_text(text, "the description", DESCRIPTION_CHARS_MAX)


def check_rate(rate_per_s: float | None, burst: float | None) -> None:
    """Raise unless this can be a rate limit."""
    for what, value in (("rate", rate_per_s), ("burst", burst)):
        if value is not None and not (math.isfinite(value) and 0 <= value <= _INT_MAX):
            raise WonderError(f"a {what} of {value} cannot be: give a number from 0 on, or leave it out")
    if burst is not None and rate_per_s is None:
        raise WonderError("a burst without a rate limits nothing: give both")


def check_time(time_us: int | None) -> None:
    """Raise unless this can be a time."""
    if time_us is not None and not 0 <= time_us <= _INT_MAX:
        raise WonderError(f"{time_us} is no time: microseconds since 1970 are meant")


def check_grace(grace_s: float) -> float:
    """The time itself that an old API key may stay good."""
    if not 0 <= grace_s <= GRACE_S_MAX:
        raise WonderError(f"an old API key cannot stay good for {grace_s} s: give 0 to {GRACE_S_MAX:.0f} (30 days)")
    return grace_s


def check_scopes(scopes: tuple[str, ...]) -> None:
    """Raise unless an API key may have these scopes."""
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise WonderError(f"there is no scope {', '.join(map(repr, unknown))}: use {', '.join(SCOPES)}")
    if not scopes:
        raise WonderError(f"an API key without a scope is good for nothing: use {', '.join(SCOPES)}")


def check_secret(value: str | None, env: str | None, file: str | None) -> tuple[str, str | None]:
    """Provider and location of a secret that is given in exactly one way. The messages never hold the value."""
    if [value, env, file].count(None) != 2:  # noqa: PLR2004 - of three
        raise WonderError(
            "a secret is given in one way: its value, or the environment variable or file of executors that holds it"
        )
    if value is not None:
        check_secret_value(value)
        return "stored", None
    if env is not None:
        if not _ENVIRONMENT_NAME.fullmatch(env):
            raise WonderError(f"{env[:80]!r} is not the name of an environment variable")
        return "env", env
    path = check_text(file or "", "the path", DESCRIPTION_CHARS_MAX)
    if not path.startswith("/"):
        raise WonderError("a secret's file is named by its whole path, from / on: executors have other folders")
    return "file", path


def check_secret_value(value: str) -> None:
    """Raise unless a value can be hidden wherever it turns up."""
    if len(value) < SECRET_CHARS_MIN:
        msg = f"a secret has at least {SECRET_CHARS_MIN} characters: a shorter one cannot be told from other text, and hidden"
        raise WonderError(msg)
    check_text(value, "the secret", SECRET_BYTES_MAX)
    if len(value.encode()) > SECRET_BYTES_MAX:
        raise WonderError(f"a secret has at most {SECRET_BYTES_MAX:,} bytes: keep a larger one in a file of the executors")


def check_sha256(sha256: str) -> str:
    """The hash itself when it is one."""
    if not _SHA256.fullmatch(sha256):
        raise DefinitionError(f"{sha256[:80]!r} is not the sha256 of a code bundle (64 hex digits)")
    return sha256


def check_bundle(content: BundleContent) -> None:
    """Raise unless a bundle may hold so much."""
    names = [*content.targets, *content.pickles, *content.files]
    if len(names) > BUNDLE_NAMES_MAX:
        raise DefinitionError(f"a code bundle with {len(names):,} files and actions has more than {BUNDLE_NAMES_MAX:,}: split it")


def check_actions(definition: dict[str, Any], content: BundleContent | None) -> None:
    """Raise an `ActionNotFoundError` for an action that cannot be where the definition says.

    Of a `module:function` that the bundle did not announce it is known only whether the bundle has the module; where not even the
    module's package is in it, the function belongs to something that is installed.
    """
    for node_id, action in _actions(definition):
        problem = _missing(action, content)
        if problem is not None:
            name = str(definition.get("name"))[:128]
            raise ActionNotFoundError(f"workflow {name!r}, node {node_id[:128]!r}: action {action[:200]!r} {problem}")


def _missing(action: str, content: BundleContent | None) -> str | None:
    module, colon, _ = action.partition(":")
    if not colon:
        if content is None:
            return "travels by value, and the definition names no code bundle: start it from the process that has it"
        return None if action in content.pickles else f"is not in its code bundle, which has {_some(content.pickles)}"
    if content is None or action in content.targets:
        return None
    files = set(content.files)
    path = module.replace(".", "/")
    if f"{path}.py" in files or f"{path}/__init__.py" in files:
        return None
    top = path.partition("/")[0]
    if any(file == f"{top}.py" or file.startswith(f"{top}/") for file in files):
        return f"is not in its code bundle: that has no module {module!r}; it has {_some(content.targets)}"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:10]) or "none"


def _actions(definition: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every (node, action) of a definition in its file form, undo actions and steps too; what is malformed is left out."""
    nodes = definition.get("nodes")
    for node in nodes if isinstance(nodes, list) else []:
        if isinstance(node, dict):
            for part in (node, node.get("undo"), *_list(node.get("steps"))):
                if isinstance(part, dict) and isinstance(action := part.get("action"), str):
                    yield str(node.get("id")), action


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
