"""Reads a Python source tree and says where it breaks a rule; `test_architecture.py` holds the rules and runs them.

Every check takes modules (or one source text) and returns findings, one line each: `wonder_ray/fold.py:12: what is wrong`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

PACKAGE: Final = "wonder_ray"
MUTABLE_DISPLAYS: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_TYPES: Final = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})
DIRECTIVE: Final = re.compile(r"#\s*(ruff:\s*noqa|noqa|type:\s*ignore)\s*(:\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*|\[[\w\-, ]+\])?")
REASON: Final = re.compile(r"[A-Za-z]{3,}")


@dataclass(frozen=True)
class Import:
    """One imported module: where, and whether the import runs when its module is loaded."""

    target: str
    line: int
    at_load: bool


@dataclass(frozen=True)
class Module:
    """One source file; `path` is relative to the top folder, with slashes."""

    path: str
    source: str
    known: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def name(self) -> str:
        """The dotted name: `wonder_ray/events/__init__.py` is `wonder_ray.events`."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def below(self) -> str:
        """The path below the package: `events/commit_log.py`."""
        return self.path.partition("/")[2]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source, self.path)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import; `from package import name` names the module where `name` is one."""
        return tuple(self._walk(self.tree.body, at_load=True))

    def _walk(self, body: Iterable[ast.stmt], *, at_load: bool) -> Iterator[Import]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno, at_load) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (Import(target, node.lineno, at_load) for target in sorted(self._from(node)))
            else:
                deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
                for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                    inner = [
                        part
                        for part in getattr(node, name, [])
                        if isinstance(part, ast.stmt | ast.excepthandler | ast.match_case)
                    ]
                    skipped = deferred or (typing_only and name == "body")
                    yield from self._walk(inner, at_load=at_load and not skipped)  # type: ignore[arg-type] # handlers have a body, too

    def _from(self, node: ast.ImportFrom) -> set[str]:
        base = node.module or ""
        if node.level:
            package = self.name.split(".") if self.path.endswith("/__init__.py") else self.name.split(".")[:-1]
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
        return {child if (child := f"{base}.{alias.name}") in self.known else base for alias in node.names}

    def at(self, line: int, text: str) -> str:
        """A finding of this module."""
        return f"{self.path}:{line}: {text}"


def load(top: Path, folder: str) -> tuple[Module, ...]:
    """Every Python file below `top/folder`, in order of their paths."""
    paths = sorted(path for path in (top / folder).rglob("*.py") if "__pycache__" not in path.parts)
    return modules_of({path.relative_to(top).as_posix(): path.read_text(encoding="utf-8") for path in paths})


def modules_of(sources: Mapping[str, str]) -> tuple[Module, ...]:
    """Modules from path and source, each knowing the names of all."""
    known = frozenset(Module(path, "").name for path in sources)
    return tuple(Module(path, source, known) for path, source in sources.items())


def part_of(name: str, rows: Collection[str]) -> str:
    """What the table of arrows calls a module: its longest row (`definitions.authoring`), else its first folder or file.

    The package itself is `__init__`.
    """
    below = name.partition(".")[2].split(".")
    longest = (".".join(below[:n]) for n in range(len(below), 0, -1))
    return next((row for row in longest if row in rows), below[0] or "__init__")


def wrong_arrows(modules: Iterable[Module], allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Imports between parts of the package that the table does not allow; parts that it does not name."""
    findings = []
    for module in modules:
        part = part_of(module.name, allowed)
        if part not in allowed:
            findings.append(module.at(1, f"`{part}` has no row in the table of arrows"))
            continue
        for imported in module.imports:
            target = part_of(imported.target, allowed)
            if imported.target.partition(".")[0] == PACKAGE and target not in {part, *allowed[part]}:
                findings.append(module.at(imported.line, f"`{part}` may not import `{target}`"))
    return findings


def misplaced_libraries(modules: Iterable[Module], places: Mapping[str, Collection[str]]) -> list[str]:
    """Imports, also deferred ones, of a library outside the places (patterns of paths) that are meant for it."""
    return [
        module.at(imported.line, f"`{library}` may be imported only in {', '.join(places[library])}")
        for module in modules
        for imported in module.imports
        if (library := imported.target.partition(".")[0]) in places
        and not any(fnmatch(module.below, pattern) for pattern in places[library])
    ]


def impurities(
    modules: Iterable[Module], pure: Collection[str], imports: Collection[str], names: Collection[str], methods: Collection[str]
) -> list[str]:
    """In modules whose path matches `pure`: banned imports, uses of banned built-in names, and of banned attributes."""
    findings = []
    for module in modules:
        if not any(fnmatch(module.below, pattern) for pattern in pure):
            continue
        findings += [
            module.at(i.line, f"pure code may not import `{i.target}`")
            for i in module.imports
            if i.target.split(".")[0] in imports
        ]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load):
                findings.append(module.at(node.lineno, f"pure code may not use `{node.id}`"))
            elif isinstance(node, ast.Attribute) and node.attr in methods:
                findings.append(module.at(node.lineno, f"pure code may not use `.{node.attr}`"))
    return findings


def import_cycles(modules: Iterable[Module]) -> list[str]:
    """Circles of imports that run at load, each reported once, from its alphabetically first module."""
    graph = {
        m.name: sorted({i.target for i in m.imports if i.at_load and i.target in m.known and i.target != m.name}) for m in modules
    }
    findings = set()
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = trail[trail.index(name) :]
            first = circle.index(min(circle))
            findings.add(" -> ".join([*circle[first:], *circle[:first], circle[first]]))
        elif name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    return sorted(findings)


def too_long(modules: Iterable[Module], *, file_lines: int, function_lines: int, actor_method_lines: int) -> list[str]:
    """Files and functions over their limits; methods of an actor's shell have a tighter one."""
    findings = []
    for module in modules:
        length = module.source.count("\n")
        if length > file_lines:
            findings.append(module.at(1, f"the file has {length} lines, more than {file_lines}"))
        limit = actor_method_lines if module.path.endswith("/actor.py") else function_lines
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > limit:
                    findings.append(module.at(node.lineno, f"`{node.name}` has {length} lines, more than {limit}"))
    return findings


def mutable_state(modules: Iterable[Module]) -> list[str]:
    """Module-level lists, dicts and sets that are no filled, upper-case `Final` tables; and every `global`."""
    findings = []
    for module in modules:
        findings += [
            module.at(n.lineno, f"`global {', '.join(n.names)}`") for n in ast.walk(module.tree) if isinstance(n, ast.Global)
        ]
        for node in module.tree.body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or not _is_mutable(node.value):
                continue
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            final = isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation)
            if target != "__all__" and not (final and target.isupper() and not _is_empty(node.value)):
                findings.append(module.at(node.lineno, f"`{target}` is mutable state of the module"))
    return findings


def _is_mutable(value: ast.expr | None) -> bool:
    return isinstance(value, MUTABLE_DISPLAYS) or (isinstance(value, ast.Call) and _last_name(value.func) in MUTABLE_TYPES)


def _is_empty(value: ast.expr | None) -> bool:
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]) | ast.Call(args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Name(id="defaultdict")):
            return True
    return False


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).split("[")[0].rpartition(".")[2]


def dead_modules(modules: Iterable[Module], others: Iterable[Module], entries: Collection[str]) -> list[str]:
    """Modules that no other module and no test imports, and that are no entry point (patterns of dotted names)."""
    modules = tuple(modules)
    known = frozenset(module.name for module in modules)
    readers = (*modules, *(Module(other.path, other.source, known) for other in others))
    imported = {i.target for reader in readers for i in reader.imports if i.target != reader.name}
    return [
        module.at(1, "nothing imports this module")
        for module in modules
        if module.name not in imported
        and not any(fnmatch(module.name, pattern) for pattern in entries)
        and not any(name.startswith(f"{module.name}.") for name in known)
    ]


def swallowed_errors(modules: Iterable[Module]) -> list[str]:
    """`except Exception: pass`, and a `suppress(Exception)` without a reason beside it."""
    findings = []
    for module in modules:
        lines = module.source.splitlines()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node.type) and all(map(_does_nothing, node.body)):
                findings.append(module.at(node.lineno, "an error of any kind vanishes here"))
            if not isinstance(node, ast.Call) or _last_name(node.func) != "suppress" or not any(map(_catches_all, node.args)):
                continue
            if not REASON.search(lines[node.lineno - 1].partition("#")[2]):
                findings.append(module.at(node.lineno, "an error of any kind vanishes here"))
    return findings


def _catches_all(caught: ast.expr | None) -> bool:
    return caught is None or any(isinstance(n, ast.Name) and n.id in {"Exception", "BaseException"} for n in ast.walk(caught))


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass | ast.Continue) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def sleeps(modules: Iterable[Module]) -> list[str]:
    """Calls of `time.sleep`, under whatever name it was imported."""
    findings = []
    for module in modules:
        aliases = {"time.sleep"}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                aliases |= {alias.asname or alias.name for alias in node.names if alias.name == "sleep"}
            elif isinstance(node, ast.Import):
                aliases |= {f"{alias.asname}.sleep" for alias in node.names if alias.name == "time" and alias.asname}
        findings += [
            module.at(node.lineno, "wait for a condition (`wait_until`) or use the simulated clock")
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in aliases
        ]
    return findings


def bare_exemptions(modules: Iterable[Module]) -> list[str]:
    """Comments that silence a checker without naming the code or without saying why."""
    findings = []
    for module in modules:
        for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
            if token.type != tokenize.COMMENT:
                continue
            directives = list(DIRECTIVE.finditer(token.string))
            if any(directive[2] is None for directive in directives):
                findings.append(module.at(token.start[0], "the exemption names no code"))
            elif directives and not REASON.search(DIRECTIVE.sub("", token.string)):
                findings.append(module.at(token.start[0], "the exemption gives no reason"))
    return findings


def unwanted_text(texts: Mapping[str, str], patterns: Mapping[str, re.Pattern[str]]) -> list[str]:
    """Lines of any file that match a pattern; its key says what was found."""
    return [
        f"{path}:{number}: {what}: {found[0]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in patterns.items()
        if (found := pattern.search(line))
    ]
