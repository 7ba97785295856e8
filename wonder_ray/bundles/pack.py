"""Packing: the code of a workflow's actions as one deterministic archive.

A bundle is an uncompressed zip: the user's files under the paths by which they are imported, `.wonder/pickles/` with the actions
that travel by value, and `.wonder/manifest.json`. Equal code gives an equal hash: names sorted, times and modes fixed, nothing
compressed (compressors differ between platforms). Pickles are as deterministic as cloudpickle is: within one session.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from wonder_ray.bundles import tree
from wonder_ray.bundles.manifest import MANIFEST_NAME, PICKLES_FOLDER, Manifest, encode_manifest, python_version
from wonder_ray.bundles.modules import is_installed, module_name, module_of, root_of, source_path
from wonder_ray.bundles.pickling import dump, mentioned_names
from wonder_ray.bundles.requirements import imported_names, local_origin, requirements, top_level, used_names
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)


class Reference(Protocol):
    """What a bundle needs to know of `ActionRef`."""

    @property
    def target(self) -> str | None: ...  # noqa: D102 - see ActionRef


@runtime_checkable
class Packable(Protocol):
    """What a bundle needs to know of an `Action`."""

    name: str
    fn: Callable[..., Any]

    @property
    def ref(self) -> Reference: ...  # noqa: D102 - see Action


class Bundle(NamedTuple):
    """Packed code, ready for `BundleStore.put(bundle.data)`."""

    sha256: str
    manifest: Manifest
    data: bytes


def pack(
    actions: Iterable[Packable | ModuleType],
    *,
    root: Path | None = None,
    data: Iterable[str] = (),
    exclude: Collection[Path] = (),
) -> Bundle:
    """Pack the code of actions, and of modules or packages that are named besides.

    Of an action in a lone file the folder of that file is packed, of one in a package that package; with each of them come the
    other modules of the user's own that they import. `tree` says which files count. Installed modules are not packed but
    listed in the manifest. Actions that only their value can transport (lambdas, notebooks) are pickled.

    Args:
        actions: `Action` objects and modules.
        root: Pack this folder, as the place to import from, instead of finding folders.
        data: Patterns (`prompts/*.txt`) of data files that are packed though they lie in no package.
        exclude: Folders to leave out: the storage folder.

    Raises:
        CodeBundleError: Two actions or files of one name, too much code, a value that cannot be pickled.

    Example:
        >>> import tempfile
        >>> from wonder_ray.bundles.store import BundleStore
        >>> from wonder_ray.executor.registry import action
        >>> bundle = pack([action(name="one")(lambda: 1)])
        >>> bundle.manifest.pickles
        {'one': '.wonder/pickles/one'}
        >>> BundleStore(tempfile.mkdtemp()).put(bundle.data) == bundle.sha256
        True
    """
    given = list(actions)
    packables = [item for item in given if not isinstance(item, ModuleType)]
    modules = [(item, _name(item)) for item in given if isinstance(item, ModuleType)]
    modules += [found for item in packables if (found := _module_of(item)) is not None]
    pickles = _pickles(packables)
    by_value = used_names(name for content in pickles.values() for name in mentioned_names(content))
    code = tree.merge(_roots(modules, root, data=tuple(data), exclude=exclude))
    code = _with_imports(code, by_value, exclude)
    files = tree.merge([code, pickles])
    manifest = Manifest(
        targets=sorted({item.ref.target for item in packables if item.ref.target is not None}),
        pickles={item.name: _pickle_file(item) for item in packables if item.ref.target is None},
        python=python_version() if any(item.ref.target is None for item in packables) else None,
        files={name: len(files[name]) for name in sorted(files)},
        requires=requirements((imported_names(code) | by_value) - top_level(code)),
    )
    archive = _zip({**files, MANIFEST_NAME: encode_manifest(manifest)})
    return Bundle(hashlib.sha256(archive).hexdigest(), manifest, archive)


def _module_of(item: Packable) -> tuple[ModuleType, str] | None:
    """The module of an action and the name to import it by; of one that travels by value, its module where it has one."""
    module = module_of(item.fn)
    if item.ref.target is not None:
        assert module is not None, "a target was derived from the module"
        return module, item.ref.target.partition(":")[0]
    name = None if module is None or module.__name__ == "__main__" else module_name(module)
    return None if module is None or name is None else (module, name)


def _name(module: ModuleType) -> str:
    name = module_name(module)
    if name is None:
        raise CodeBundleError(f"module {module.__name__!r} cannot be packed: it is in no .py file whose path fits its name")
    return name


def _roots(
    modules: list[tuple[ModuleType, str]], root: Path | None, *, data: tuple[str, ...], exclude: Collection[Path]
) -> list[tree.Files]:
    """The folders to pack; each once, however many actions lie in it."""
    own = [(module, name) for module, name in modules if not is_installed(module)]
    if root is not None:
        base = root.resolve()
        for module, name in own:
            _check_inside(module, name, base)
        return [tree.collect_folder(base, base=base, exclude=exclude, data=data)]
    folders = {}
    for module, name in own:
        base = root_of(module, name)
        top = base / name.partition(".")[0]
        is_package = top.is_dir() and ("." in name or source_path(module) == top / "__init__.py")
        folders[top if is_package else base] = base
    return [
        tree.collect_folder(folder, base=base, exclude=exclude, data=data, is_deep=folder != base)
        for folder, base in sorted(folders.items())
    ]


def _check_inside(module: ModuleType, name: str, base: Path) -> None:
    if root_of(module, name) != base:
        raise CodeBundleError(
            f"module {name!r} is not imported from the root {base} but from {root_of(module, name)}: name that folder"
        )


def _with_imports(code: tree.Files, used: set[str], exclude: Collection[Path]) -> tree.Files:
    """The code and, transitively, whatever of the user's own it imports (or the pickles use) from elsewhere."""
    seen: set[str] = set()
    while missing := (imported_names(code) | used) - top_level(code) - seen:
        seen |= missing
        for name in sorted(missing):
            origin = local_origin(name)
            if origin is not None and origin.is_dir():
                code = tree.merge([code, tree.collect_folder(origin, base=origin.parent, exclude=exclude)])
            elif origin is not None:
                code = tree.merge([code, tree.read_file(origin, origin.name)])
    return code


def _pickles(packables: list[Packable]) -> tree.Files:
    files: tree.Files = {}
    owners: dict[str, Packable] = {}
    for item in packables:
        if item.ref.target is not None:
            continue
        if owners.setdefault(item.name, item).fn is not item.fn:
            raise CodeBundleError(f"two actions that travel by value are called {item.name!r}: give one another name=")
        files[_pickle_file(item)] = dump(item.fn, item.name)
    return files


def _pickle_file(item: Packable) -> str:
    return f"{PICKLES_FOLDER}/{item.name}"


def _zip(files: tree.Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o100644 << 16
            info.create_system = 3  # Unix, also when packed elsewhere
            archive.writestr(info, files[name])
    return buffer.getvalue()
