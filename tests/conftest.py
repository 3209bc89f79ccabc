"""Fixtures of all tests: users, a real Redis, real services, a browser.

alice and bob are users, charlie is staff.
"""

import atexit
import gc
import os
import shutil
import threading
from collections.abc import Generator, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page
from pytest_django.live_server_helper import LiveServer

from accounts.models import ApiToken, User
from generation.broker.connection import redis_client
from generation.models import DiffusionModel
from tests.support.browser import chromium, new_context
from tests.support.generations import bundled_model
from tests.support.hub import ModelHub, model_hub
from tests.support.servers import EmbeddedRedis, QuietHandler
from tests.support.service import METRICS_TOKEN, Service

# Real hashes cost half a second each, and no test here is about them.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what collection creates out of garbage collections: they would search half a million objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """The database of the tests, whose tables can be emptied after each: without the triggers of append-only rows."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'accounts_auditentry'")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {name}")


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The embedded Redis, on a socket of this run."""
    server = EmbeddedRedis(settings.DATA_DIR)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> None:
    """An empty Redis."""
    redis_client().flushall()


@pytest.fixture(scope="session")
def hub() -> ModelHub:
    """The hub on loopback that this process and those it starts know as the hub of models. Each test adds what it needs."""
    return model_hub()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real service that tests share. Its workers finish running generations when they are stopped."""
    # Tests pause its worker, on a busy machine for some seconds, and its leases are to last.
    settings = {"MAX_UPLOAD_BYTES": "1000000", "LEASE_SECONDS": "60", "DRAIN_SECONDS": "60", "WAIT_SECONDS": "180"}
    # A proxy of the tests is believed as nginx on the same host would be.
    settings["TRUSTED_PROXIES"] = "127.0.0.1"
    settings |= {"METRICS_NETWORKS": "127.0.0.1", "METRICS_TOKEN": METRICS_TOKEN}
    # All tests come from one address.
    settings["CONNECTIONS_PER_ADDRESS"] = "0"
    with Service(tmp_path_factory.mktemp("d"), **settings) as service:
        yield service


@pytest.fixture(scope="session")
def other_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of another site, which has an empty page."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text("<!doctype html><title>Another site</title>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def limited_service(other_origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service with limits, which listens on all addresses. Pages of `other_origin` may use its API."""
    settings = {"HOST": "0.0.0.0", "CORS_ORIGINS": other_origin, "LIMITS": "on", "WAIT_SECONDS": "180"}  # noqa: S104
    with Service(tmp_path_factory.mktemp("d"), **settings) as service:
        yield service


@pytest.fixture(scope="session")
def alices_key(service: Service) -> str:
    """A token of alice at the real service."""
    return service.manage("createtoken", "alice", "--name", "tests", "--create")


@pytest.fixture(scope="session")
def bobs_key(service: Service) -> str:
    """A token of bob at the real service."""
    return service.manage("createtoken", "bob", "--name", "tests", "--create")


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password="alice-password")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", password="bob-password")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_superuser("charlie", password="charlie-password")


@pytest.fixture
def alices(alice: User) -> ApiToken:
    """The row of a token of alice, as requests carry it."""
    return ApiToken.objects.issue(alice, "laptop")[0]


@pytest.fixture
def bobs(bob: User) -> ApiToken:
    """The row of a token of bob."""
    return ApiToken.objects.issue(bob, "laptop")[0]


@pytest.fixture
def alices_token(alice: User) -> str:
    return ApiToken.objects.issue(alice, "alice's laptop")[1]


@pytest.fixture
def bobs_token(bob: User) -> str:
    return ApiToken.objects.issue(bob, "bob's laptop")[1]


@pytest.fixture
def tiny_edit(db: None) -> DiffusionModel:
    """The bundled model's row. It is created again if an earlier test has emptied the table."""
    return bundled_model()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new profile of the browser."""
    context = new_context(browser)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, live_server: LiveServer) -> Iterator[Page]:
    """A page of the running site. The test fails on any error in the browser's console, such as of the CSP."""
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{live_server.url}/history/")
    yield page
    assert problems == []
