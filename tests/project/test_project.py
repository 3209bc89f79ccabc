"""The project's own promises: layers, types, style, migrations, and a README that tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from generation.parameters import ErrorCode, ImageToImageParameters
from tests.support.environment import ROOT

README = (ROOT / "README.md").read_text()


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


def test_every_setting_is_documented() -> None:
    source = (ROOT / "dreamsite" / "settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z0-9_]+)"', source))
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    documented = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert documented == read


def test_every_field_and_its_default_are_documented() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", README.partition("## The API")[2], re.M))
    for name, field in ImageToImageParameters.model_fields.items():
        default = str(field.default)
        assert name in rows
        if re.fullmatch(r"[\d.]+|True|False", default):
            assert rows[name] == default.lower()


def test_every_error_code_is_documented() -> None:
    table = README.partition("| code | status |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    assert documented == {code.value for code in ErrorCode}


def test_the_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?\bmake (\w+)\b`?", README)) & {"run", "test", "bench"}:
        assert re.search(rf"^{target}:", makefile, re.M)
    for command in set(re.findall(r"manage\.py (\w+)", README)):
        finished = subprocess.run(
            [sys.executable, "manage.py", "help", command], cwd=ROOT, capture_output=True, text=True
        )
        assert finished.returncode == 0, finished.stderr


def test_the_files_the_readme_points_at_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    assert (ROOT / "dreamsite" / "static" / "sample.jpg").exists()


def test_torch_is_not_loaded_by_the_web_process() -> None:
    script = (
        "import dreamsite.asgi, sys; from django.urls import reverse; reverse('history');"
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
