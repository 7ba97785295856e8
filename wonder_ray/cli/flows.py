"""What a user names on the command line, made real: a file with a workflow, an input, labels."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wonder_ray.errors import DefinitionError, PayloadError, WonderError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition

PYTHON: Final = ".py"


class Loaded(NamedTuple):
    """A workflow, and the modules beside its file that its actions are in (where it names them by text)."""

    flow: Workflow | WorkflowDefinition
    modules: tuple[ModuleType, ...] = ()

    @property
    def definition(self) -> WorkflowDefinition:
        """The checked definition; a `DefinitionError` that lists what is wrong."""
        from wonder_ray.definitions.builder import Workflow

        return self.flow.definition() if isinstance(self.flow, Workflow) else self.flow

    def startable(self, storage: Path) -> Workflow | WorkflowDefinition:
        """What to start: with the code of `modules` in the definition's bundle."""
        from wonder_ray.bundles.pack import pack
        from wonder_ray.bundles.store import BundleStore
        from wonder_ray.definitions.builder import Workflow

        if isinstance(self.flow, Workflow):
            self.flow.include(*self.modules)
            return self.flow
        if not self.modules:
            return self.flow
        bundle = pack(self.modules, exclude=(storage,))
        BundleStore(storage).put(bundle.data)
        return self.definition.model_copy(update={"bundle": bundle.sha256})


def load_flow(file: Path, name: str | None = None) -> Loaded:
    """The workflow in a file; of several in a `.py` file the one that runs all the others as its children, if there is one.

    Args:
        file: A `.py` file with a `Workflow` at module level, or a definition in `.json` or `.yaml`.
        name: Which one, when a `.py` file has several: the workflow's name, or its variable.

    Raises:
        DefinitionError: There is no such file or workflow, it cannot be imported, or it is not sound.
    """
    if file.suffix != PYTHON:
        from wonder_ray.definitions.files import load_definition

        if name is not None:
            raise DefinitionError(f"--name {name!r}: only a .py file can hold several workflows, and {file} is none")
        definition = load_definition(file)
        return Loaded(definition, () if definition.bundle else _modules_beside(file, definition))
    flows = load_flows(file)
    chosen = {variable: flow for variable, flow in flows.items() if name in (None, variable, flow.name)}
    if name is None:
        children = [child for flow in flows.values() for child in _descendants(flow)]
        chosen = {v: flow for v, flow in flows.items() if all(flow is not child for child in children)}
    if len(chosen) != 1:
        known = ", ".join(f"{variable} ({flow.name!r})" for variable, flow in flows.items())
        what = f"no workflow {name!r}" if name is not None else f"{len(flows)} workflows"
        raise DefinitionError(f"{file} holds {what}: choose one with --name; there are {known}")
    loaded = Loaded(next(iter(chosen.values())))
    for child in _descendants(loaded.flow):
        child.include(*_modules_beside(file, child.definition()))
    return Loaded(loaded.flow, _modules_beside(file, loaded.definition))


def _descendants(flow: Workflow | WorkflowDefinition) -> list[Workflow]:
    """The workflows that it runs as its children and that are registered with it."""
    from wonder_ray.definitions.builder import Workflow

    return [child for child in flow.descendants() if isinstance(child, Workflow)] if isinstance(flow, Workflow) else []


def load_flows(file: Path) -> dict[str, Workflow | WorkflowDefinition]:
    """The workflows at module level of a `.py` file, by variable; at least one.

    The file is imported under its own name, so that its actions are `crawl:fetch` for the executors, too.
    """
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition

    module = import_user_file(file)
    flows: dict[str, Workflow | WorkflowDefinition] = {}
    for variable, value in vars(module).items():
        if isinstance(value, Workflow | WorkflowDefinition) and all(value is not known for known in flows.values()):
            flows[variable] = value
    if not flows:
        raise DefinitionError(f"{file} has no Workflow at module level: write `flow = Workflow(...)` outside of functions")
    return flows


def import_user_file(file: Path) -> ModuleType:
    """Import a user's file; what it prints goes to stderr.

    Raises:
        DefinitionError: It is missing, or raised; names its line.
    """
    from wonder_ray.bundles.modules import import_file

    if not file.is_file():
        raise DefinitionError(f"{file}: there is no such file")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return import_file(file)
    except WonderError as error:
        raise DefinitionError(_located(file, error)) from error
    except (Exception, SystemExit) as error:  # whatever a user's module may raise
        raise DefinitionError(_located(file, error)) from error


def _located(file: Path, error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    where = str(file) if line is None else f"{file}:{line}"
    what = str(error) if isinstance(error, WonderError) else f"{type(error).__name__}: {error}"
    return f"{where}: {what}"


def _modules_beside(file: Path, definition: WorkflowDefinition) -> tuple[ModuleType, ...]:
    """The modules in the folder of a file that its actions name; installed ones are everywhere already."""
    folder = file.resolve().parent
    found: dict[str, ModuleType] = {}
    for target in _targets(definition):
        name, _, function = target.partition(":")
        path = folder.joinpath(*name.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(PYTHON)
        if name in found or not source.is_file() or source == file.resolve():
            continue
        found[name] = import_user_file(source)
        if not hasattr(found[name], function.partition(".")[0]):
            raise DefinitionError(f"{file}: action {target!r}: {source.name} has no {function!r}")
    return tuple(found.values())


def _targets(definition: WorkflowDefinition) -> list[str]:
    from wonder_ray.definitions.models import ActionNode, StepsNode, Undo

    found: list[str] = []
    for node in definition.nodes:
        undo: Undo | None = getattr(node, "undo", None)
        found += [] if undo is None else [undo.action]
        if isinstance(node, ActionNode):
            found.append(node.action)
        elif isinstance(node, StepsNode):
            found += [step.action for step in node.steps]
    return [target for target in dict.fromkeys(found) if ":" in target]


def parse_input(text: str | None) -> Any:
    """The value of `--input`: JSON, `@file`, or `-` for stdin; None when it is not given.

    Raises:
        PayloadError: It is no JSON.
    """
    return None if text is None else parse_value("--input", text, """--input '{"site": "example.org"}'""")


def parse_value(what: str, text: str, example: str) -> Any:
    """The value that an argument or option holds: JSON, `@file`, or `-` for stdin.

    Args:
        what: The argument, as it is called.
        text: What was given.
        example: The argument as it should be written, quoted for a shell.

    Raises:
        PayloadError: It is no JSON.
    """
    from wonder_ray.values import decode

    source, content = what, text
    if text == "-":
        source, content = "stdin", sys.stdin.read()
    elif text.startswith("@"):
        source = text[1:]
        try:
            content = Path(source).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PayloadError(f"{what} {text}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return decode(content)
    except PayloadError as error:
        hint = "" if source != what else f" (quote it for the shell: {example})"
        raise PayloadError(f"{source}: {error}{hint}") from None


def parse_changes(what: str, texts: Sequence[str]) -> dict[str, Any]:
    """The `TARGET=JSON` arguments.

    >>> parse_changes("--set", ["state.limit=5", 'state.name="ann"'])
    {'state.limit': 5, 'state.name': 'ann'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        if not target or not equals:
            raise PayloadError(f"{what} {text!r}: write it as TARGET=JSON, such as state.limit=5")
        found[target.strip()] = parse_value(f"{what} {target.strip()}", value, f"""'{target.strip()}="text"'""")
    return found


def parse_object(option: str, text: str | None) -> dict[str, Any]:
    """The JSON object that an option holds; empty when it is not given."""
    from wonder_ray.values import decode

    try:
        value = {} if text is None else decode(text)
    except PayloadError as error:
        raise PayloadError(f"{option}: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError(f"{option}: it is no JSON object")
    return value


def parse_labels(texts: list[str], option: str = "--label") -> dict[str, str]:
    """The `--label name=value` options, or others of that form.

    >>> parse_labels(["team=data", "note=a=b"])
    {'team': 'data', 'note': 'a=b'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WonderError(f"{option} {text!r}: write it as name=value")
        found[name] = value
    return found
