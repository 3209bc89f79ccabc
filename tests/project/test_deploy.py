"""The files in `deploy/`: the environment passes Django's checks, and the commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

from django.core.management import get_commands

from tests.support.environment import ROOT

DEPLOY = ROOT / "deploy"
# The file as a shell reads it, but for what belongs to a host and what is to be filled in.
LOAD = 'set -a && . deploy/dreamsite.env && DATA_DIR="$1" && SECRET_KEY="$2" && shift 2 && exec "$@"'
SECRET_KEY = "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrstuvwxyz"

ANSWERS = """
from django.test import Client
for path in ("/ready", "/tokens/"):
    print(Client().get(path, headers={"host": "dream.example.org"}).status_code)
secure = Client().get("/accounts/sign-in", headers={"host": "dream.example.org", "x-forwarded-proto": "https"})
print(secure["Strict-Transport-Security"])
"""


def run(*command: str, **environment: str) -> str:
    """Return what a command prints in this environment and no other variables."""
    basics = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    finished = subprocess.run(
        command, cwd=ROOT, env={**basics, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout.strip()


def test_production_settings_raise_no_warning(tmp_path: Path) -> None:
    check = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    output = run("sh", "-c", LOAD, "sh", str(tmp_path), SECRET_KEY, *check)
    assert output == "System check identified no issues (2 silenced)."


def test_only_readiness_is_answered_without_tls_and_hsts_binds_this_name_alone(tmp_path: Path) -> None:
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", ANSWERS]
    answers = run(*shell, DATA_DIR=str(tmp_path), HTTPS="on", ALLOWED_HOSTS="dream.example.org").split()
    # It is not ready, since nothing runs, but it answers.
    assert answers == ["503", "301", "max-age=31536000"]


def test_every_variable_of_the_environment_is_a_setting() -> None:
    names = re.findall(r"^(?:# )?([A-Z0-9_]+)=", (DEPLOY / "dreamsite.env").read_text(), re.M)
    assert "DATABASE_URL" in names
    documented = (ROOT / "docs" / "settings.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in documented] == []


def test_units_and_steps_run_commands_that_exist() -> None:
    units = {path.name: path.read_text() for path in DEPLOY.glob("*.service")}
    started = {re.findall(r"^ExecStart=\S+/python manage\.py (\S+)", unit, re.M)[0] for unit in units.values()}
    assert started == {"web", "worker", "reaper"}
    assert all("EnvironmentFile=/etc/dreamsite.env" in unit for unit in units.values())
    steps = set(re.findall(r"^    dreamsite (\w+)", (DEPLOY / "README.md").read_text(), re.M))
    assert {"migrate", "download_model"} <= steps
    assert started | steps <= set(get_commands())


def test_nginx_looks_where_the_socket_is() -> None:
    listening = re.findall(r"^ListenStream=(\S+)", (DEPLOY / "dreamsite-web.socket").read_text(), re.M)
    assert re.findall(r"^    server (\S+);", (DEPLOY / "nginx.conf").read_text(), re.M) == listening
