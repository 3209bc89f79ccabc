"""The files in `deploy/`: the environment passes Django's checks, and the commands exist."""

import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from django.core.management import get_commands
from pytest_django import Settings

from dreamsite import checks
from tests.support.environment import ROOT
from tests.support.nginx import needs_nginx, nginx
from tests.support.servers import QuietHandler
from tests.support.web_process import WebProcess

DEPLOY = ROOT / "deploy"
# The file as a shell reads it, but for what belongs to a host and what is to be filled in.
LOAD = 'set -a && . deploy/dreamsite.env && DATA_DIR="$1" && SECRET_KEY="$2" && shift 2 && exec "$@"'
SECRET_KEY = "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrstuvwxyz"

ANSWERS = """
from django.test import Client
for path in ("/ready", "/metrics", "/tokens/"):
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


@pytest.mark.parametrize(
    ("asked", "header"),
    [({}, "max-age=31536000"), ({"HSTS_SUBDOMAINS": "on"}, "max-age=31536000; includeSubDomains")],
)
def test_only_monitoring_is_answered_without_tls_and_hsts_binds_what_is_asked_for(
    tmp_path: Path, asked: dict[str, str], header: str
) -> None:
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", ANSWERS]
    answers = run(*shell, DATA_DIR=str(tmp_path), HTTPS="on", ALLOWED_HOSTS="dream.example.org", **asked).splitlines()
    # It is not ready, since nothing runs, and has no metrics to read, but it answers.
    assert answers == ["503", "404", "301", header]


def test_a_web_process_behind_a_proxy_with_tls_binds_all_that_can_be_bound(tmp_path: Path) -> None:
    header = "max-age=31536000; includeSubDomains; preload"
    with (
        WebProcess(tmp_path, HTTPS="on", HSTS_SUBDOMAINS="on", HSTS_PRELOAD="on") as web,
        web.client() as client,
    ):
        answer = client.get("/accounts/sign-in", headers={"X-Forwarded-Proto": "https"})
        assert (answer.status_code, answer.headers["Strict-Transport-Security"]) == (200, header)
        assert client.get("/accounts/sign-in").status_code == 301


def test_preload_without_subdomains_stops_the_start(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(tmp_path), "HTTPS": "on", "HSTS_PRELOAD": "on", "PORT": "0"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert "HSTS_PRELOAD=True needs HSTS_SUBDOMAINS=on" in finished.stderr


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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_units_expose_little(tmp_path: Path) -> None:
    """systemd rates from 0, safe, to 10; each unit was 8.5 without the hardening."""
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(DEPLOY, units)
    for name in ("dreamsite-web", "dreamsite-reaper", "dreamsite-worker@1"):
        rate = [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
            f"--root={tmp_path}",
            f"{name}.service",
        ]
        finished = subprocess.run(rate, capture_output=True, text=True)
        assert finished.returncode == 0, f"{name}: {finished.stdout[-300:]}"


@needs_nginx
def test_nginx_bounds_clients_and_logs_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    handler = partial(QuietHandler, directory=str(tmp_path / "site"))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as site,
        nginx(tmp_path, f"127.0.0.1:{site.server_port}") as url,
        httpx.Client(base_url=url, headers={"Host": "dream.example.org"}) as client,
    ):
        threading.Thread(target=site.serve_forever, daemon=True).start()
        client.get("/media/outputs/a.png?expires=1796058018&signature=e88513fa1e08", headers={"User-Agent": "curl"})
        client.get("/s/kJ8fQ2xYbW/picture")
        client.get("/accounts/password/reset/MQ/kJ8fQ2xYbW")
        assert client.get("/", headers={"Cookie": "x" * 40_000}).status_code == 400
        assert 429 in {client.get("/").status_code for _ in range(400)}
        site.shutdown()
    logged = (tmp_path / "dreamsite.log").read_text()
    assert '"GET /media/outputs/a.png HTTP/1.1" 404' in logged
    assert '"GET /s/... HTTP/1.1" 404' in logged
    logged += (tmp_path / "dreamsite-error.log").read_text() + (tmp_path / "error.log").read_text()
    assert not re.search("signature|e88513|kJ8fQ2", logged)


@pytest.mark.parametrize(
    ("url", "problems"),
    [
        ("unix:///run/redis.sock", []),
        ("rediss://dreamsite:secret@redis.example.org:6379/0", []),
        ("rediss://redis.example.org?ssl_certfile=/etc/dreamsite.pem", []),
        ("redis://:secret@127.0.0.1", []),
        ("redis://:secret@localhost", []),
        ("redis://127.0.0.1", ["has no password"]),
        ("rediss://redis.example.org", ["has no password"]),
        ("redis://:secret@10.0.0.7", ["is not encrypted"]),
        ("redis://redis.example.org", ["has no password", "is not encrypted"]),
        ("rediss://:secret@redis.example.org?ssl_cert_reqs=none", ["accepts any certificate"]),
    ],
)
def test_a_redis_that_others_can_reach_is_a_warning(settings: Settings, url: str, problems: list[str]) -> None:
    settings.REDIS_URL = url
    messages = [warning.msg for warning in checks.check_redis(None)]
    assert [message.partition(":")[0] for message in messages] == [f"REDIS_URL {problem}" for problem in problems]
