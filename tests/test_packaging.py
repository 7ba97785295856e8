"""What a user installs: a light import, types, one version, and requirements that say exactly which files are meant."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest

import wonder_ray

TOP: Final = Path(__file__).parents[1]
REQUIREMENTS: Final = (TOP / "scripts" / "requirements.txt", TOP / "scripts" / "requirements-dev.txt")
PIN: Final = re.compile(r"^([a-z0-9-]+)==([0-9a-z.]+)( ; [^\\]+)? \\$")
HASH: Final = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def project() -> dict[str, Any]:
    with (TOP / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name to version and hashes; every line is one of the two, and every pin has a hash."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    name = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if pin := PIN.match(line):
            name = pin[1]
            assert name not in found, f"{path.name}:{number}: {name} is pinned twice"
            found[name] = (pin[2], frozenset())
        else:
            assert HASH.match(line), f"{path.name}:{number}: neither a pin nor a hash: {line}"
            version, hashes = found[name]
            found[name] = (version, hashes | {line.split(":")[1].removesuffix(" \\")})
    assert all(hashes for _, hashes in found.values())
    return found


def test_the_import_pulls_in_neither_ray_nor_pyarrow_nor_sql() -> None:
    program = "import json, sys, wonder_ray; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    heavy = {"ray", "pyarrow", "sqlmodel", "sqlalchemy", "apsw", "numpy", "pandas", "rich", "typer", "cel_expr_python"}
    assert heavy & set(json.loads(output)) == set()


def test_every_folder_with_code_is_a_package() -> None:
    """Setuptools leaves out the others."""
    folders = {path.parent for path in (TOP / "wonder_ray").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (TOP / "wonder_ray" / "py.typed").read_bytes() == b""
    assert "py.typed" in project()["tool"]["setuptools"]["package-data"]["wonder_ray"]


def test_data_files_of_the_package_go_into_the_wheel() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["wonder_ray"]
    packaged = {path for pattern in patterns for path in (TOP / "wonder_ray").glob(pattern)}
    present = {path for path in (TOP / "wonder_ray").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert present <= packaged


def test_the_version_is_one() -> None:
    assert wonder_ray.__version__ == project()["project"]["version"]


def test_the_installed_package_is_this_one() -> None:
    try:
        distribution = metadata.distribution("wonder-ray")
    except metadata.PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed")
    assert distribution.version == wonder_ray.__version__
    commands = {point.name: point.value for point in distribution.entry_points if point.group == "console_scripts"}
    assert commands == {"wonder": "wonder_ray.cli:main"}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_pins_with_hashes_and_nothing_else(path: Path) -> None:
    assert len(pins(path)) > 20


@pytest.mark.parametrize("line", ["ray>=2.55", "--index-url x", "ray==2.60.0", "ray @ x", "    --hash=sha256:00"])
def test_other_requirement_lines_are_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        pins(path)


def test_the_demo_installs_a_part_of_what_the_checks_install() -> None:
    demo, dev = map(pins, REQUIREMENTS)
    assert demo.items() <= dev.items()


def test_requirements_pin_every_dependency_and_no_accelerator() -> None:
    settings = project()["project"]
    wanted = {
        re.split(r"[\[<>=]", text)[0].lower() for text in settings["dependencies"] + settings["optional-dependencies"]["dev"]
    }
    assert wanted - {"wonder-ray"} <= set(pins(REQUIREMENTS[1]))
    assert not [name for name in pins(REQUIREMENTS[1]) if name.startswith(("torch", "nvidia", "cuda", "jax"))]


def test_sqlite_is_one_that_does_not_lose_committed_pages() -> None:
    """Up to 3.51.2 a race while the WAL is reset could corrupt the database."""
    import apsw

    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) > (3, 51, 2)
