"""Under which module name, from which folder, a function is reached in another process.

>>> import json
>>> target_of(json.dumps)
'json:dumps'
>>> target_of(lambda: 1) is None
True
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_INSTALLED_PARTS = frozenset({"site-packages", "dist-packages"})


def target_of(fn: Callable[..., object]) -> str | None:
    """The `module:qualname` by which an executor can import this function, or None when only its value can travel.

    None is the answer for lambdas, local functions, and functions of a notebook, a REPL or `python -c`. A function of the
    script that is running (`python flow.py`) is reached in its file's module, `flow`.
    """
    qualname = getattr(fn, "__qualname__", "<unknown>")
    module = module_of(fn)
    if "<" in qualname or module is None:
        return None
    name = module_name(module, fn)
    return None if name is None else f"{name}:{qualname}"


def module_of(fn: Callable[..., object]) -> ModuleType | None:
    """The module that a function says it is from, if there is one."""
    return sys.modules.get(getattr(fn, "__module__", None) or "")


def module_name(module: ModuleType, fn: Callable[..., object] | None = None) -> str | None:
    """The name under which another process can import this module; None when it is in no file with a fitting name."""
    if module.__name__ == "__main__":
        return _main_name(module, fn)
    spec = getattr(module, "__spec__", None)
    if is_installed(module):
        return module.__name__ if spec is not None else None
    path = source_path(module)
    if path is None or _root_of(path, module.__name__) is None:
        return None
    return module.__name__


def import_file(path: Path) -> ModuleType:
    """Import a user's file under the name that executors will know it by: what `wonder run flow.py` does.

    A lone `flow.py` is module `flow`, with its folder first on `sys.path`; a file of a package has its dotted name. Nothing under
    `if __name__ == "__main__"` runs.

    Raises:
        CodeBundleError: There is no such Python file, or another module has its name already.
        Exception: Whatever the file raises while it is imported.
    """
    path = path.resolve()
    if path.suffix != ".py" or not path.is_file():
        raise CodeBundleError(f"{path} is no Python file")
    root, parts = path.parent, [path.stem] if path.name != "__init__.py" else []
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    name = ".".join(parts)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
    module = importlib.import_module(name)
    if source_path(module) != path:
        found = getattr(module, "__file__", None) or "the interpreter itself"
        raise CodeBundleError(f"{path} cannot be imported as {name!r}: that is the name of {found}; rename the file")
    return module


def source_path(module: ModuleType) -> Path | None:
    """The .py file of a module, or None."""
    file = getattr(module, "__file__", None)
    if file is None or not str(file).endswith(".py"):
        return None
    path = Path(file).resolve()
    return path if path.is_file() else None


def root_of(module: ModuleType, name: str) -> Path:
    """The folder that has to be on `sys.path` for the module to be imported under this name.

    >>> from pathlib import Path
    >>> from wonder_ray import errors
    >>> root_of(errors, "wonder_ray.errors") == Path(errors.__file__).parents[1]
    True
    """
    path = source_path(module)
    root = None if path is None else _root_of(path, name)
    assert root is not None, f"{name} has no root: module_name() answers None for it"
    return root


def is_installed(module: ModuleType) -> bool:
    """Whether the module comes with the environment (standard library, site-packages, wonder-ray itself), not with the user."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__.partition(".")[0] in sys.stdlib_module_names
    return is_installed_path(Path(file).resolve())


def is_installed_path(path: Path) -> bool:
    """`is_installed` for a file."""
    return not _INSTALLED_PARTS.isdisjoint(path.parts) or any(path.is_relative_to(folder) for folder in _environment_folders())


@cache
def _environment_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")]
    return (*folders, Path(__file__).resolve().parents[1])  # the last is wonder-ray itself


def _main_name(main: ModuleType, fn: Callable[..., object] | None) -> str | None:
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    path = source_path(main)
    if path is None or not _is_importable(path.stem):
        return None
    if fn is not None and not _is_written_in(fn, path):  # a notebook's kernel is a script too, but the function is not in it
        return None
    return path.stem


def _is_written_in(fn: Callable[..., object], path: Path) -> bool:
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return code is not None and Path(code.co_filename).resolve() == path


def _is_importable(stem: str) -> bool:
    return "." not in stem and not keyword.iskeyword(stem) and stem != "__main__"


def _root_of(path: Path, name: str) -> Path | None:
    """The folder above the module's file by as many levels as its name has, when the two agree."""
    parts = name.split(".")
    tail = path.parent.parts if path.name == "__init__.py" else (*path.parent.parts, path.stem)
    if list(tail[-len(parts) :]) != parts:
        return None
    return Path(*tail[: -len(parts)])
