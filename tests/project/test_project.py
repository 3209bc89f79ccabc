"""Rules of the project: layers, types, style, migrations, and no torch in the web process."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

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


def test_torch_is_not_loaded_by_the_web_process() -> None:
    script = (
        "import dreamsite.asgi, sys; from django.urls import reverse; reverse('history');"
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
