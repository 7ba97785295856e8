"""What packed code imports: further code of the user's own to pack, and distributions that nodes have to have."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wonder_ray.bundles.manifest import Requirement
from wonder_ray.bundles.modules import is_installed_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.bundles.tree import Files

PROVIDED = frozenset({"wonder_ray", "ray"})
"""What every executor has; not listed, so that an upgrade of these changes no bundle."""


def imported_names(files: Files) -> set[str]:
    r"""The top-level names that the source files import absolutely; a file that is no Python says nothing.

    >>> sorted(imported_names({"a.py": b"import numpy.linalg\nfrom . import b\nfrom os import path"}))
    ['numpy', 'os']
    """
    names: set[str] = set()
    for name, content in files.items():
        if name.endswith(".py"):
            names |= _names_in(content)
    return names


def local_origin(name: str) -> Path | None:
    """The file or folder of a top-level module that is the user's own (neither installed nor of the standard library)."""
    found = _find(name)
    if found is None or name in sys.stdlib_module_names or name in PROVIDED:
        return None
    if found.submodule_search_locations is not None:
        folders = [Path(folder).resolve() for folder in found.submodule_search_locations]
        return folders[0] if folders and not is_installed_path(folders[0]) else None
    path = Path(found.origin).resolve() if found.origin else None
    return path if path is not None and path.suffix == ".py" and not is_installed_path(path) else None


def used_names(mentioned: Iterable[str]) -> set[str]:
    """Of names that code mentions in whatever way, those that are modules it may mean: loaded ones, or the user's own files.

    >>> used_names({"json", "no_such_module_anywhere"})
    {'json'}
    """
    return {name for name in mentioned if name in sys.modules or _is_own_module(name)}


def _is_own_module(name: str) -> bool:
    origin = local_origin(name)
    return origin is not None and (origin.is_file() or (origin / "__init__.py").is_file())


def requirements(names: Iterable[str]) -> list[Requirement]:
    """The installed distributions that these top-level modules come from, with their versions."""
    wanted = sorted(name for name in names if name not in sys.stdlib_module_names and name not in PROVIDED)
    if not wanted:
        return []
    providers = importlib.metadata.packages_distributions()
    found = [(name, distribution) for name in wanted for distribution in sorted(set(providers.get(name, ())))]
    return [Requirement(name, distribution, importlib.metadata.version(distribution)) for name, distribution in found]


def top_level(files: Files) -> set[str]:
    """The names by which the files can be imported.

    >>> sorted(top_level({"flow.py": b"", "pkg/__init__.py": b"", "notes.txt": b""}))
    ['flow', 'pkg']
    """
    return {name.partition("/")[0].removesuffix(".py") for name in files if name.endswith(".py")}


def _names_in(content: bytes) -> set[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)  # of a top-level name: executes nothing
    except (ImportError, ValueError, AttributeError):  # a module without a spec, a broken finder: not ours to judge
        return None
