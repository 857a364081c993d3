"""What the folders promise."""

import ast
import tomllib

import pytest

from tests.contracts.sources import PACKAGES, ROOT, Module, modules

VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [m.relative for m in modules() if VAGUE & set(m.name.split("."))]
    assert named == []


def test_systemd_holds_data_only() -> None:
    """A package of that name would shadow python-systemd."""
    assert (ROOT / "systemd").is_dir()
    assert list((ROOT / "systemd").rglob("*.py")) == []


@pytest.mark.parametrize("module", [m for m in modules() if m.path.name == "__init__.py"], ids=lambda m: m.relative)
def test_a_packages_init_is_a_docstring(module: Module) -> None:
    (only,) = module.tree.body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)
    assert isinstance(only.value.value, str)


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {m.path.parent for m in modules()}
    assert [f.as_posix() for f in folders if not (f / "__init__.py").exists()] == []


def test_the_wheel_holds_the_packages_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert sorted(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
