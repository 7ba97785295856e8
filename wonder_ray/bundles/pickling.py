"""Functions by value, for what no module holds: lambdas, local functions, notebooks."""

from __future__ import annotations

import pickle
import pickletools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from wonder_ray.bundles.modules import module_of
from wonder_ray.errors import CodeBundleError

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME_CHARACTERS_MAX = 256


def dump(fn: Callable[..., Any], name: str) -> bytes:
    """The function with all it closes over; a `CodeBundleError` that names what cannot be pickled.

    What the function uses of a module that can be imported elsewhere travels by reference; of `__main__` by value.
    """
    import cloudpickle

    module = module_of(fn)
    with ExitStack() as stack:
        if module is not None and module.__name__ != "__main__" and getattr(module, "__file__", None) is None:
            cloudpickle.register_pickle_by_value(module)  # made by exec or a notebook tool: nobody else can import it
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        try:
            return bytes(cloudpickle.dumps(fn, protocol=pickle.HIGHEST_PROTOCOL))
        except Exception as error:
            raise CodeBundleError(
                f"action {name!r} cannot travel by value: {type(error).__name__}: {error}. Define it at the top of a .py file, "
                "or create what it closes over (connections, locks, clients) inside the function"
            ) from error


def mentioned_names(data: bytes) -> set[str]:
    """Every identifier, or first part of a dotted one, that a pickle holds as a string: among them all modules it needs.

    Those are the modules that it refers to, and the ones that its functions import when they run (the names in their code).

    >>> import json
    >>> "json" in mentioned_names(pickle.dumps(json.dumps))
    True
    """
    strings = {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    tops = {text.partition(".")[0] for text in strings if len(text) <= _NAME_CHARACTERS_MAX}
    return {top for top in tops if top.isidentifier()}


def load(data: bytes, name: str) -> Any:
    """What `dump` dumped; a `CodeBundleError` when it does not load here.

    Bundles hold code that its author runs anyway, and are named by their hash: a pickle in one adds no danger.
    """
    try:
        return pickle.loads(data)  # noqa: S301 - see the docstring
    except BaseException as error:  # user code runs here (SystemExit included)
        raise CodeBundleError(
            f"action {name!r}, which travels by value, does not load: {type(error).__name__}: {error}"
        ) from error
