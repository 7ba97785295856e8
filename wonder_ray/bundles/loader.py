"""Loading: from a bundle's hash to the function to call, once per process.

>>> load_installed("json:dumps")([1])
'[1]'
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wonder_ray.bundles import pickling
from wonder_ray.bundles.archive import extract
from wonder_ray.bundles.imports import ImportSpace, import_space, is_from
from wonder_ray.bundles.manifest import MANIFEST_NAME, Manifest, decode_manifest, python_version
from wonder_ray.bundles.store import BundleStore
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Callable


class LoadedBundle:
    """An extracted bundle of this process; `resolve` gives its functions.

    Attributes:
        sha256: Its name.
        path: The folder it was extracted to.
        manifest: Its content.
    """

    def __init__(self, sha256: str, path: Path, space: ImportSpace) -> None:
        self.sha256 = sha256
        self.path = path
        self.manifest = decode_manifest((path / MANIFEST_NAME).read_bytes(), sha256)
        self._space = space
        self._resolved: dict[str, Any] = {}

    def resolve(self, *, target: str | None = None, name: str = "") -> Any:
        """The object that `module:qualname` names, or (without a target) the one pickled under `name`.

        The bundle is active afterwards, so that imports which the function makes when it is called find its modules.

        Raises:
            CodeBundleError: No such module, attribute or pickle, or it failed while it was imported.
        """
        key = name if target is None else target
        self._space.activate(self.path)
        if key not in self._resolved:
            with self._space.importing(self.path):
                self._resolved[key] = self._unpickle(name) if target is None else self._import(target)
        return self._resolved[key]

    def _import(self, target: str) -> Any:
        where = f"bundle {self.sha256[:12]}"
        found = _import_target(target, where, self.manifest)
        module = target.partition(":")[0]
        path = self.path.joinpath(*module.split("."))
        if (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()) and not self._owns(module):
            raise CodeBundleError(
                f"{where}: module {module!r} was packed, but this process already has another module of that name, which cannot "
                "step aside; rename the file"
            )
        return found

    def _owns(self, module: str) -> bool:
        return is_from(importlib.import_module(module), self.path)

    def _unpickle(self, name: str) -> Any:
        file = self.manifest.pickles.get(name)
        if file is None:
            known = ", ".join(sorted(self.manifest.pickles)) or "none"
            raise CodeBundleError(f"bundle {self.sha256[:12]} has no action {name!r} that travels by value (it has: {known})")
        if self.manifest.python != python_version():
            raise CodeBundleError(
                f"action {name!r} travels by value (it was defined in a notebook, a REPL or a function), from Python "
                f"{self.manifest.python}; this executor has Python {python_version()}, which cannot read it. Use one version "
                "everywhere, or define the action in a .py file"
            )
        return pickling.load((self.path / file).read_bytes(), name)


class BundleLoader:
    """Loads bundles of a storage folder into this process; each once.

    Args:
        storage: The storage folder that holds the blobs.
        cache_folder: Where bundles are extracted, one folder each, shared by the user's processes; by default
            `$XDG_CACHE_HOME/wonder-ray/bundles`, or a private folder in the temporary one where that cannot be written.
        space: Where its modules are imported to.
        fetch: See `BundleStore`.
    """

    def __init__(
        self,
        storage: str | Path,
        *,
        cache_folder: Path | None = None,
        space: ImportSpace | None = None,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:
        self._store = BundleStore(storage, fetch)
        self._cache_folder = cache_folder
        self._space = space or import_space()
        self._loaded: dict[str, LoadedBundle] = {}

    def load(self, sha256: str) -> LoadedBundle:
        """The bundle, extracted; a `CodeBundleError` when it is missing or damaged."""
        found = self._loaded.get(sha256)
        if found is None:
            folder = self._cache_folder or default_cache_folder()
            found = self._loaded[sha256] = LoadedBundle(sha256, _extracted(self._store, sha256, folder), self._space)
        return found

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        """The function of an action: of a bundle, or (bundle None) of an installed module."""
        if bundle is not None:
            return self.load(bundle).resolve(target=target, name=name)
        if target is None:
            raise CodeBundleError(f"action {name!r} travels by value, but its workflow names no bundle")
        self._space.deactivate()  # what the last task's bundle holds is not installed
        return load_installed(target)


@cache
def bundle_loader(storage: str, fetch: Callable[[str], bytes] | None = None) -> BundleLoader:
    """The loader of this process for a storage folder; `fetch` as `BundleStore` takes it."""
    return BundleLoader(storage, fetch=fetch)


def load_installed(target: str) -> Any:
    """The object that `module:qualname` names where this process finds it; a `CodeBundleError` when it does not."""
    return _import_target(target, "this executor", Manifest())


def default_cache_folder() -> Path:
    """The user's own folder for extracted bundles; made when it is missing, and refused when somebody else owns it."""
    home = os.environ.get("XDG_CACHE_HOME") or (str(Path("~").expanduser() / ".cache"))
    fallback = Path(tempfile.gettempdir()) / f"wonder-ray-{os.getuid()}" / "bundles"
    for folder in (Path(home) / "wonder-ray" / "bundles", fallback):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid() == folder.parent.stat().st_uid:
            return folder
    raise CodeBundleError(f"no folder to extract code to: neither {home} nor {fallback} can be written; set XDG_CACHE_HOME")


def _import_target(target: str, where: str, manifest: Manifest) -> Any:
    module_name, _, qualname = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except BaseException as error:  # user code runs here (SystemExit included)
        raise CodeBundleError(f"{where}: importing {module_name!r} failed: {_import_problem(error, manifest)}") from error
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CodeBundleError(
                f"{where}: module {module_name!r} has no {qualname!r}; was the action renamed or removed?"
            ) from None
    return found


def _import_problem(error: BaseException, manifest: Manifest) -> str:
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, (ImportError, SyntaxError)):
        return f"{text} (executors import the file: what only a script should do belongs under `if __name__ == '__main__':`)"
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return text
    wanted = manifest.requirement(error.name)
    what = f"{wanted.distribution}=={wanted.version}" if wanted else error.name.partition(".")[0]
    return f"{text}. Install {what} on every node, or give the node runtime_env={{'pip': [{what!r}]}}"


def _extracted(store: BundleStore, sha256: str, cache_folder: Path) -> Path:
    store.path(sha256)  # refuses what is no hash before it becomes a folder's name
    cache_folder = cache_folder.resolve()
    final = cache_folder / sha256
    if _is_whole(final, sha256):
        return final
    data = store.read(sha256)
    cache_folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{sha256[:12]}-", dir=cache_folder))
    try:
        extract(data, aside / "new", sha256)
        if final.exists() and not _is_whole(final, sha256):  # a cleaner of temporary files has been here
            final.rename(aside / "damaged")
        try:
            (aside / "new").rename(final)
        except OSError:  # another process was faster
            if not _is_whole(final, sha256):
                raise
    except OSError as error:
        raise CodeBundleError(f"code bundle {sha256[:12]} cannot be extracted to {final}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final


def _is_whole(folder: Path, sha256: str) -> bool:
    try:
        manifest = decode_manifest((folder / MANIFEST_NAME).read_bytes(), sha256)
        return all((folder / name).stat().st_size == size for name, size in manifest.files.items())
    except (OSError, CodeBundleError):
        return False
