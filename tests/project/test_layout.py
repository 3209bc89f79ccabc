"""The layout of tests: each package tests a package of the project, and shared code is in `tests.support`."""

import ast

import pytest

from tests.support.environment import ROOT

TESTS = ROOT / "tests"
OTHER_PACKAGES = {"browser", "project", "security", "support", "tools"}
"""Packages of tests that test no single package."""
MODULES = sorted(TESTS.rglob("test_*.py"))


def imported_modules(source: str) -> set[str]:
    """Return the modules, and the names that may be modules, that this source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_module_imports_another(path: object) -> None:
    names = imported_modules((TESTS / str(path)).read_text())
    assert not [name for name in names if name.startswith("tests.") and ".test_" in name]


def test_every_package_of_tests_is_about_a_package_of_the_project() -> None:
    packages = {path.parent.name for path in TESTS.glob("*/__init__.py")}
    assert packages > OTHER_PACKAGES
    for name in packages - OTHER_PACKAGES:
        assert any((ROOT / root / "__init__.py").is_file() for root in (f"generation/{name}", name)), name


def test_every_test_module_lies_in_a_package() -> None:
    assert all(path.parent.parent == TESTS for path in MODULES)
