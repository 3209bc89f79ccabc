"""Rules of the project: layers, types, style, migrations, and no torch in the web process."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.core.management import call_command

from generation.families import FAMILY_TRAITS
from tests.support.environment import ROOT


def run(*command: str) -> None:
    finished = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_imports_point_one_way() -> None:
    finished = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_style() -> None:
    run("ruff", "check", "--no-cache", ".")
    run("ruff", "format", "--no-cache", "--check", ".")


def test_types() -> None:
    run("mypy")


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_torch_is_not_loaded_by_the_web_process_nor_the_admin_without_its_addresses() -> None:
    script = (
        "import dreamsite.asgi, generation.maintenance.reaper, sys; from django.urls import reverse;"
        "early = {'generation.admin', 'huggingface_hub'} & set(sys.modules); reverse('history');"
        "late = {'torch', 'diffusers', 'transformers', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(', '.join(early | late) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_the_extra_that_errors_name_has_the_packages_of_all_families() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {requirement.partition(">=")[0] for requirement in extras["gpu"]}
    assert {package for traits in FAMILY_TRAITS.values() for package in traits.packages} <= installed


@pytest.mark.parametrize(("name", "value"), [("LOG_LEVEL", "loud"), ("TIME_ZONE", "Mars/Olympus"), ("PORT", "http")])
def test_a_setting_that_cannot_be_read_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"{name}='{value}' is not a valid value"):
        runpy.run_path(str(ROOT / "dreamsite" / "settings.py"))
