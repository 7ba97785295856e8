"""Every example in a docstring is run."""

from __future__ import annotations

import doctest
import pkgutil
import warnings
from importlib import import_module

import pytest

import wonder_ray

NOT_IMPORTED = ("__main__", "env")  # running them is what importing them means, and `env` is run by Alembic

MODULES = [
    module.name
    for module in pkgutil.walk_packages(wonder_ray.__path__, "wonder_ray.")
    if module.name.rpartition(".")[2] not in NOT_IMPORTED
]


@pytest.mark.parametrize("name", ["wonder_ray", *MODULES])
def test_examples_in_docstrings_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other people's, at their import
        module = import_module(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0, capsys.readouterr().out
