"""The import system of one process, shared out among bundles: one is active at a time, and none sees another's modules.

A process that runs tasks of two versions of a workflow needs two modules called `flow`. Switching takes the modules of one
bundle out of `sys.modules`, keeps them, and puts the other's in; each is imported once. What was loaded from elsewhere under
a name that the bundle uses (the driver's own folder, say) steps aside meanwhile.
"""

from __future__ import annotations

import importlib
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

_NEVER_ASIDE = frozenset({"wonder_ray", "ray", "msgspec", "cloudpickle", "__main__"}) | sys.stdlib_module_names
_importing: ContextVar[bool] = ContextVar("wonder_importing_bundle", default=False)


def is_importing() -> bool:
    """Whether the caller runs because an executor imports a bundle: a script that starts a run now lacks its `__main__` guard."""
    return _importing.get()


def refuse_while_importing(what: str) -> None:
    """Raise a `WonderError` when the caller runs because an executor imports its file; `what` is what the file does."""
    if is_importing():
        raise WonderError(
            f"this file {what} while an executor imports it to find its actions; put what only a script should do under "
            "`if __name__ == '__main__':`"
        )


class ImportSpace:
    """`sys.path` and `sys.modules`, with at most one bundle in them. One per process: `import_space()`."""

    def __init__(self) -> None:
        self._active: Path | None = None
        self._kept: dict[Path, dict[str, ModuleType]] = {}
        self._aside: dict[str, ModuleType] = {}
        self._lock = threading.RLock()

    @contextmanager
    def importing(self, root: Path) -> Iterator[None]:
        """Activate a bundle and mark that its code is being imported."""
        with self._lock:
            self.activate(root)
            token = _importing.set(True)
            try:
                yield
            finally:
                _importing.reset(token)

    def activate(self, root: Path) -> None:
        """Make `import` see the bundle extracted at `root`, before anything else, and no other bundle."""
        with self._lock:
            if self._active == root:
                return
            self.deactivate()
            self._aside = {name: sys.modules.pop(name) for name in _foreign(root)}
            sys.modules.update(self._kept.get(root, {}))
            sys.path.insert(0, str(root))
            importlib.invalidate_caches()
            self._active = root

    def deactivate(self) -> None:
        """Leave the process as if no bundle had been active."""
        with self._lock:
            root = self._active
            if root is None:
                return
            kept = {name: module for name, module in list(sys.modules.items()) if is_from(module, root)}
            for name in kept:
                del sys.modules[name]
            self._kept[root] = kept
            sys.modules.update(self._aside)
            self._aside = {}
            while str(root) in sys.path:
                sys.path.remove(str(root))
            self._active = None


@cache
def import_space() -> ImportSpace:
    """The one of this process."""
    return ImportSpace()


def is_from(module: object, root: Path) -> bool:
    """Whether a module was loaded from a bundle's folder (a namespace package: also from there)."""
    prefix = f"{root}/"
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file.startswith(prefix)
    try:
        return any(str(folder).startswith(prefix) for folder in getattr(module, "__path__", None) or ())
    except Exception:  # noqa: BLE001 - odd objects live in sys.modules, with odd attributes
        return False


def _foreign(root: Path) -> list[str]:
    """The loaded modules that would hide the bundle's own of the same top-level name."""
    lone = {path.stem for path in root.glob("*.py")} | {path.parent.name for path in root.glob("*/__init__.py")}
    namespaces = {path.name for path in root.iterdir() if path.is_dir()} - lone
    tops = {name for name in lone - _NEVER_ASIDE if name in sys.modules}
    tops |= {name for name in namespaces - _NEVER_ASIDE if name in sys.modules and _is_namespace(sys.modules[name])}
    return [name for name in list(sys.modules) if name.partition(".")[0] in tops]


def _is_namespace(module: ModuleType) -> bool:
    return getattr(module, "__file__", None) is None and hasattr(module, "__path__")
