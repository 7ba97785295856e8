"""Definitions as JSON and YAML files.

Both forms hold the same and give the same `version`. Short forms that people write by hand are accepted (see `shorthand`); what
is written is the full form.

>>> text = '''
... name: crawl
... nodes:
...   list: {action: "crawl:list_urls", output: {state.urls: result}}
...   fetch: {action: "crawl:fetch", input: {url: item}, retry: {max_attempts: 3}}
...   report: {action: "crawl:report", input: {pages: state.pages}}
... transitions:
... - {from: list, to: fetch, foreach: state.urls, group: pages}
... - {from: fetch, to: report, join: {over: pages, merge: {target: state.pages}}}
... '''
>>> definition = parse_definition(text, "yaml")
>>> parse_definition(format_definition(definition, "json"), "json").version == definition.version
True
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from wonder_ray.definitions import models
from wonder_ray.definitions.checks.problems import Place, Problem, did_you_mean
from wonder_ray.definitions.documents import check_value, lines_of, parse_json, parse_yaml, write_json, write_yaml
from wonder_ray.definitions.shorthand import Origins, expand
from wonder_ray.definitions.validation import definition_error, validate
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

Format: TypeAlias = Literal["json", "yaml"]
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_FORMATS: Final[dict[str, Format]] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}
_KINDS: Final[dict[str, type[BaseModel]]] = {
    "action": models.ActionNode,
    "steps": models.StepsNode,
    "compute": models.ComputeNode,
    "gate": models.GateNode,
    "wait_signal": models.SignalNode,
    "timer": models.TimerNode,
    "terminate": models.TerminateNode,
    "subworkflow": models.SubworkflowNode,
}
_PARTS: Final[dict[str, type[BaseModel]]] = {
    "transitions": models.Transition,
    "join": models.Join,
    "merge": models.Merge,
    "retry": models.Retry,
    "steps": models.Step,
    "resources": models.Resources,
    "undo": models.Undo,
    "escalate": models.Escalation,
}
_ERRORS_MAX = 1000
_NO_KIND = "union_tag_invalid"
_UNION_MEMBERS = frozenset({"int", "str", "float"})


def load_definition(path: str | os.PathLike[str], *, checked: bool = True) -> models.WorkflowDefinition:
    r"""Read a definition from a `.json`, `.yaml` or `.yml` file of at most 64 MB.

    Args:
        path: The file.
        checked: Whether to refuse what `validation.check` refuses, with the lines in the message.

    Raises:
        DefinitionError: The file cannot be read, or holds no sound definition; names the file, and each line, field and mend.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "w.yaml"
        >>> _ = path.write_text("name: w\nnodes: [{id: a, action: 'm:f'}]\n")
        >>> load_definition(path).nodes[0].id
        'a'
    """
    source, form, text = _read(path)
    return parse_definition(text, form, source=source, checked=checked)


class Inspection(NamedTuple):
    """What is known of a definition file.

    Fields:
        definition: What it holds.
        findings: Each with its line, None where it is not known; errors first.
    """

    definition: models.WorkflowDefinition
    findings: tuple[tuple[int | None, Problem], ...]


def inspect_definition(path: str | os.PathLike[str]) -> Inspection:
    r"""Read a definition file and judge it: every error and warning with its line.

    Raises:
        DefinitionError: The file cannot be read, or is no definition at all (`load_definition` raises the same).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "w.yaml"
        >>> _ = path.write_text("name: w\nnodes:\n  a: {output: {state.x: 1}}\n")
        >>> [(line, problem.severity, problem.message) for line, problem in inspect_definition(path).findings]
        [(3, 'warning', 'nothing reads state.x')]
    """
    source, form, text = _read(path)
    definition, origins = _definition(_parsed(text, form, source), source, text)
    problems = validate(definition)
    lines = lines_of(text, {origins.of(problem.place) for problem in problems})
    return Inspection(definition, tuple((lines.get(origins.of(problem.place)), problem) for problem in problems))


def dump_definition(definition: models.WorkflowDefinition, path: str | os.PathLike[str]) -> None:
    """Write a definition to a `.json`, `.yaml` or `.yml` file; a file that is there is replaced in one step.

    Raises:
        DefinitionError: The suffix is another, or the definition holds what JSON cannot.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "w.json"
        >>> dump_definition(models.WorkflowDefinition(name="w", nodes=(models.ComputeNode(id="a"),)), path)
        >>> load_definition(path).name
        'w'
    """
    path = Path(path)
    text = format_definition(definition, _format_of(path))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def parse_definition(text: str, form: Format, *, source: str = "<text>", checked: bool = True) -> models.WorkflowDefinition:
    """The definition that a text holds; `source` is what messages call it.

    Raises:
        DefinitionError: As `load_definition`.

    >>> parse_definition('{"name": "w", "nodes": [{"id": "a", "acton": "m:f"}]}', "json", source="w.json")
    Traceback (most recent call last):
    wonder_ray.errors.DefinitionError: w.json:1: node 'a', acton: unknown field; did you mean 'action'?
    """
    definition, origins = _definition(_parsed(text, form, source), source, text)
    if checked:
        _check(definition, origins, source, text)
    return definition


def definition_from_json(document: Any, *, source: str = "<value>", checked: bool = True) -> models.WorkflowDefinition:
    """The definition that a parsed JSON value holds: what a request's body was.

    Raises:
        DefinitionError: As `load_definition`, without lines.

    >>> definition_from_json({"name": "w", "nodes": {"a": {"action": "m:f"}}}).nodes[0].id
    'a'
    """
    try:
        check_value(document)
    except DefinitionError as error:
        msg = f"{source}: {error}"
        raise DefinitionError(msg) from None
    definition, origins = _definition(document, source, None)
    if checked:
        _check(definition, origins, source, None)
    return definition


def format_definition(definition: models.WorkflowDefinition, form: Format) -> str:
    """The text of a definition's file.

    >>> print(format_definition(models.WorkflowDefinition(name="w", nodes=(models.ComputeNode(id="a"),)), "yaml"), end="")
    name: w
    nodes:
    - id: a
      kind: compute
    """
    document = definition.to_json()
    check_value(document)
    return write_json(document) if form == "json" else write_yaml(document)


def _format_of(path: Path) -> Format:
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        msg = f"{path}: a definition is a {', '.join(_FORMATS)} file (a workflow in Python is run with its .py file)"
        raise DefinitionError(msg)
    return form


def _read(path: str | os.PathLike[str]) -> tuple[str, Format, str]:
    """What messages call the file, its form and its text."""
    path = Path(path)
    form = _format_of(path)
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            msg = f"{path}: {size:,} bytes, more than {FILE_BYTES_MAX:,}; make data of what repeats and use foreach"
            raise DefinitionError(msg)
        return str(path), form, path.read_text(encoding="utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise DefinitionError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise DefinitionError(msg) from None


def _parsed(text: str, form: Format, source: str) -> Any:
    try:
        document = parse_json(text) if form == "json" else parse_yaml(text)
        check_value(document)
    except DefinitionError as error:
        msg = f"{source}: {error}"
        raise DefinitionError(msg) from None
    return document


def _definition(document: Any, source: str, text: str | None) -> tuple[models.WorkflowDefinition, Origins]:
    if not isinstance(document, dict):
        what = "is empty" if document is None else f"holds a {type(document).__name__}"
        msg = f"{source}: {what}; a definition is a map with name, nodes and transitions"
        raise DefinitionError(msg)
    try:
        expanded, origins = expand(document)
    except DefinitionError as error:
        msg = f"{source}: {error}"
        raise DefinitionError(msg) from None
    try:
        return models.WorkflowDefinition.model_validate(expanded), origins
    except ValidationError as error:
        raise _error(source, text, _problems(error.errors(include_url=False), expanded), origins) from None


def _check(definition: models.WorkflowDefinition, origins: Origins, source: str, text: str | None) -> None:
    errors = [problem for problem in validate(definition) if problem.severity == "error"]
    if errors:
        raise _error(source, text, errors, origins)


def _error(source: str, text: str | None, problems: list[Problem], origins: Origins) -> DefinitionError:
    lines = {} if text is None else lines_of(text, {origins.of(problem.place) for problem in problems})
    found = []
    for problem in problems:
        line = lines.get(origins.of(problem.place))
        found.append(f"{source}:{line}: {problem}" if line is not None else f"{source}: {problem}")
    return DefinitionError(found[0]) if len(found) == 1 else definition_error(source, found)


def _problems(errors: Iterable[ErrorDetails], document: dict[str, Any]) -> list[Problem]:
    """The findings of pydantic as ours, each place once."""
    found: dict[Place, Problem] = {}
    for error in islice(errors, _ERRORS_MAX):
        if error["type"] == "too_short" and len(found) > 0:
            continue  # follows from the errors of its elements, which pydantic did not count
        place = _place(error)
        message, mend = _explained(error, place, document)
        node, transition = _owner(place, document)
        problem = Problem(severity="error", message=message, mend=mend, node=node, transition=transition, place=place)
        found.setdefault(place, problem)
    return list(found.values())


def _place(error: ErrorDetails) -> Place:
    """Without the names of union members, which pydantic puts between."""
    place = [*error["loc"]]
    if place[0] == "nodes" and place[2:3] and place[2] in _KINDS:
        del place[2]
    if error["type"] == _NO_KIND:
        place.append("kind")
    if place[1:] and place[-1] in _UNION_MEMBERS:
        place.pop()
    return tuple(place)


def _owner(place: Place, document: dict[str, Any]) -> tuple[str | None, str | None]:
    position = place[1] if place[1:] else None
    if not isinstance(position, int):
        return None, None
    item = document[str(place[0])][position]
    item = item if isinstance(item, dict) else {}
    if place[0] == "nodes":
        return str(item.get("id", position)), None
    if place[0] == "transitions":
        return None, f"{item.get('from', item.get('source', '?'))}->{item.get('to', item.get('target', '?'))}"
    return None, None


def _explained(error: ErrorDetails, place: Place, document: dict[str, Any]) -> tuple[str, str]:
    if error["type"] == "extra_forbidden":
        return _unknown(str(place[-1]), place, document)
    if error["type"] == _NO_KIND:
        kind = str(_at(document, place))
        return f"{kind[:80]!r} is no kind of node", did_you_mean(kind, _KINDS)
    if error["type"] == "missing":
        return "is missing", "add it"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}", f"it is {repr(error.get('input'))[:80]}"


def _unknown(field: str, place: Place, document: dict[str, Any]) -> tuple[str, str]:
    """What is to be said about a field that there is not."""
    holder = next((part for part in reversed(place[:-1]) if part in _PARTS), None)
    if holder is not None:
        return "unknown field", did_you_mean(field, _fields(_PARTS[str(holder)]))
    if place[0] != "nodes":
        return "unknown field", did_you_mean(field, _fields(models.WorkflowDefinition))
    kind = str(_at(document, (*place[:2], "kind")))
    others = [other for other, model in _KINDS.items() if field in model.model_fields]
    if others:
        return f"unknown field of a node of kind {kind}; {' and '.join(others)} have it", "remove it, or correct kind"
    told_by_nothing = kind == "compute"
    kinds = _KINDS if told_by_nothing else [kind]
    return "unknown field", did_you_mean(field, list(dict.fromkeys(name for each in kinds for name in _fields(_KINDS[each]))))


def _fields(kind: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in kind.model_fields.items() if name != "kind"]


def _at(document: dict[str, Any], place: Place) -> Any:
    at: Any = document
    for part in place:
        at = at[part]
    return at
