"""`manage.py doctor`: what it says of things that are really broken, and of those that are not."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from django.db import OperationalError, connection
from django.test import Client, override_settings
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from dreamsite.doctor import machine, outside, parts
from dreamsite.doctor.findings import Finding, clock
from generation.broker.connection import redis_client
from generation.images import certificates
from tests.support.environment import ROOT
from tests.support.hub import ModelHub
from tests.support.proxies import proxy
from tests.support.servers import free_port, s3_server
from tests.support.service import Service, migrated_database
from tests.support.workers import register_worker


def wrong(findings: Iterable[Finding]) -> str:
    """Return what is wrong, in one text."""
    return "\n".join(f"{finding.text} {finding.advice}" for finding in findings if finding.is_wrong)


def good(findings: Iterable[Finding]) -> str:
    found = list(findings)
    assert wrong(found) == ""
    return "\n".join(finding.text for finding in found)


def test_it_says_what_is_broken_and_nothing_secret(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_bytes(migrated_database().read_bytes())
    with s3_server() as s3, socket.create_server(("127.0.0.1", 0)) as other:
        environment = {
            **os.environ,
            "DATA_DIR": str(tmp_path),
            "PORT": str(other.getsockname()[1]),
            "MIN_FREE_DISK": "1",
            "REDIS_URL": f"redis://:guarded-secret@127.0.0.1:{free_port()}/0",
            "S3_BUCKET": "missing",
            "S3_ENDPOINT_URL": s3.url,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "CUDA_VISIBLE_DEVICES": "0",
            "BACKUP_TO": str(tmp_path / "unmounted"),
        }
        command = [sys.executable, "manage.py", "doctor"]
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = " ".join(finished.stdout.split())
    assert finished.returncode == 1
    for text in (
        "wrong port Another program listens on 127.0.0.1",
        "is full",
        "-> Stop it, or set PORT to a free one.",
        "wrong gpu",
        "cannot be used: Error 111 connecting to 127.0.0.1",
        "wrong storage The bucket missing cannot be written. There is no bucket of this name.",
        "-> Create it, or correct S3_BUCKET.",
        "wrong backups There is no directory",
        "good migrations All have been run.",
    ):
        assert text in said, said
    assert "guarded-secret" not in finished.stdout + finished.stderr
    assert "6 things are wrong; see above what to do." in finished.stderr


def test_nothing_is_wrong_with_a_running_service(service: Service) -> None:
    said = service.manage("doctor")
    assert "The pool default has 1 that take work, on cpu." in " ".join(said.split())
    assert said.endswith("Nothing is wrong.")


# The machine


def test_the_service_that_listens_is_told_from_others(service: Service, settings: Settings) -> None:
    settings.PORT = int(service.url.rpartition(":")[2])
    assert "The service listens on 127.0.0.1" in good(machine.port())
    settings.HOST = "192.0.2.1"
    assert "Set HOST to an address of this machine" in wrong(machine.port())


def test_little_memory_is_told(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEVICE, settings.WORKERS = "cpu", 2
    limit = tmp_path / "memory.max"
    limit.write_text("1000000000\n")
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", limit)
    assert "There are 1.0 GB; the service with 2 workers takes up to 4.3 GB" in wrong(machine.memory())


# The parts


@pytest.fixture
def _other_redis() -> Iterator[None]:
    redis_client.cache_clear()
    yield
    redis_client.cache_clear()


@pytest.mark.usefixtures("_other_redis", "db")
def test_the_embedded_redis_and_its_workers_are_not_missed_before_the_start(settings: Settings) -> None:
    assert "It is started by `serve`" in good(parts.redis())
    assert "They are started by `serve`" in good(parts.workers())


@pytest.mark.usefixtures("redis", "tiny_edit")
def test_backups_are_not_wrong_because_the_database_is_away(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError

    settings.BACKUP_TO = str(tmp_path)
    with monkeypatch.context() as away:
        away.setattr(connection, "vendor", "postgresql")
        away.setattr(connection, "ensure_connection", refuse)
        assert "The first is to be made." in good(parts.backups())


@pytest.mark.django_db
def test_a_pool_without_a_worker_is_told(settings: Settings) -> None:
    settings.REDIS_EMBEDDED = False
    assert "answers, version" in good(parts.redis())
    assert "Start one: manage.py worker --pool default." in wrong(parts.workers())


@pytest.mark.django_db
@pytest.mark.usefixtures("redis", "tiny_edit")
def test_a_host_with_another_watermark_key_is_told(settings: Settings) -> None:
    settings.REDIS_EMBEDDED = False
    own = certificates.key_name(settings.WATERMARK_KEY.encode())
    register_worker(watermark_key=own)
    assert "1 that take work" in good(parts.workers())
    register_worker("other", host="other", watermark_key="0badc0de")
    found = wrong(parts.workers())
    assert f"The watermark key here is {own}, that of other is 0badc0de" in found
    assert "Set WATERMARK_KEY on all hosts" in found


def test_a_wrong_secret_of_the_bucket_is_told(tmp_path: Path, settings: Settings) -> None:
    with s3_server() as s3:
        settings.S3_BUCKET = s3.bucket
        settings.S3_OPTIONS = settings.S3_OPTIONS | {
            "endpoint_url": s3.url,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        }
        backend = "generation.images.s3.SharedS3Storage"

        def use(**others: str) -> None:
            options = {"bucket_name": s3.bucket, **settings.S3_OPTIONS, **others}
            settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": backend, "OPTIONS": options}}

        use()
        assert f"Signed addresses at {s3.url} work." in good(parts.storage())
        assert s3.names() == set()
        use(secret_key="not the secret")
        assert "The secret of the key is wrong. Correct S3_SECRET_KEY" in wrong(parts.storage())
        settings.S3_PUBLIC_ENDPOINT_URL = unreachable = f"http://127.0.0.1:{free_port()}"
        use(public_endpoint_url=unreachable)
        assert f"Signed addresses at {unreachable} do not work from here" in wrong(parts.storage())


def test_clocks_that_are_apart_are_told() -> None:
    now = datetime.now(UTC)
    assert clock("Redis", now + timedelta(seconds=1), now, 2.0).advice == ""
    assert clock("Redis", now - timedelta(seconds=90), now, 2.0).text.startswith(
        "That of Redis is 90 s behind this one"
    )


# Outside


@pytest.mark.django_db(transaction=True)
def test_it_says_how_a_request_arrives_through_a_proxy(live_server: LiveServer, settings: Settings) -> None:
    assert "arrives from 127.0.0.1, by http." in good(outside.proxy(live_server.url))
    with proxy(live_server.url, "", removes=False, headers="X-Forwarded-For: 203.0.113.7\r\n") as untrusted:
        assert "Add 127.0.0.1 to TRUSTED_PROXIES" in wrong(outside.proxy(untrusted.url))
    with proxy(live_server.url, "/dream", removes=True) as below:
        assert "The site is at /dream, but its own addresses begin with /." in wrong(outside.proxy(below.url))
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert "Let the proxy set X-Forwarded-For" in wrong(outside.proxy(live_server.url))
    settings.ALLOWED_HOSTS = ["dream.example.org"]
    assert "Add localhost to ALLOWED_HOSTS." in wrong(outside.proxy(live_server.url))
    assert "cannot be reached" in wrong(outside.proxy(f"http://127.0.0.1:{free_port()}"))


def test_nobody_else_sees_how_requests_arrive(client: Client) -> None:
    assert client.get("/ready/request").status_code == 404
    assert client.get("/ready/request", {"sign": ":1vabc:forged"}).status_code == 404


def test_the_mail_server_is_asked(settings: Settings) -> None:
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    assert "no mail is sent" in good(outside.mail())
    settings.EMAIL_URL = f"smtp://127.0.0.1:{settings.EMAIL_PORT}"
    assert "cannot be reached: Connection refused" in wrong(outside.mail())
    server = Controller(object(), "127.0.0.1", settings.EMAIL_PORT)
    server.start()
    try:
        assert good(outside.mail()) == f"127.0.0.1:{settings.EMAIL_PORT} answers."
        with override_settings(EMAIL_USE_TLS=True):
            (finding,) = outside.mail()
        assert "STARTTLS extension not supported by server" in finding.text
        assert "smtp for neither" in finding.advice
        # It knows no users.
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "dreamsite", "a password"
        assert "refuses: SMTP AUTH extension not supported" in wrong(outside.mail())
    finally:
        server.stop()


def test_the_hub_is_asked(hub: ModelHub, settings: Settings) -> None:
    settings.MODELS_OFFLINE = False
    assert f"{hub.url} answers; HF_TOKEN is not set" in good(outside.hub())
