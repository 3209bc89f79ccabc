"""Requests with PostgreSQL, S3 and a separate Redis, through processes that share no directory."""

import io
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.servers import (
    PostgreSQLServer,
    RedisServer,
    S3Server,
    free_port,
    postgresql,
    redis_server,
    s3_server,
)
from tests.support.service import WAIT_SECONDS, model_for, wait_until

PASSWORD = "alice-password"
HELD_SECONDS = 600.0
"""How long a client waits for its pictures: also while a busy machine starts a worker in place of a killed one."""

PREPARE = f"""
from accounts.models import User
from generation.models import DiffusionModel, Generation

alice = User.objects.get(username="alice")
alice.set_password("{PASSWORD}")
alice.save()

users = [User.objects.create_user(name) for name in ("bob", "charlie")]
models = [DiffusionModel.objects.get(is_default=True), DiffusionModel.objects.get(pk="stabilityai/sd-turbo")]
row = dict(input_width=1, input_height=1, pool="race", parameters={{}}, recipe={{"seeds": [1]}}, cost=1)
Generation.objects.bulk_create(
    Generation(user=users[number % 2], model=models[number // 2 % 2], **row) for number in range(100)
)
"""
"""Sets a password for alice, and creates a pool without workers with a hundred queued rows of two users and two models."""

CLAIM = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from django.db import connections
from generation.jobs import queue, user_queues

# The rows were inserted by themselves, or given to another user.
user_queues.repair()
everybody = Barrier(4)
WARM = "dreamsite/tiny-edit"

def claim(worker):
    everybody.wait()
    try:
        return [str(row.pk) for batch in iter(lambda: queue.claim("race", worker, {WARM: ""}), []) for row in batch]
    finally:
        connections.close_all()

with ThreadPoolExecutor(4) as pool:
    for claimed in pool.map(claim, ["worker-1", "worker-2", "worker-3", "worker-4"]):
        print(*claimed)
"""

COVERS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from django.db import connections
from accounts.models import User
from generation.library import albums
from generation.models import GeneratedImage, Generation

alice = User.objects.get(username="alice")
rows = Generation.objects.filter(pool="race")[:4]
ids = [row.pk for row in rows]
Generation.objects.filter(pk__in=ids).update(user=alice)
GeneratedImage.objects.bulk_create(
    GeneratedImage(generation_id=pk, index=0, seed=1, file="x", thumbnail="x", width=1, height=1) for pk in ids
)
album = albums.create(alice, "race")
albums.add(album, ids)
everybody = Barrier(4)

def choose(pk):
    everybody.wait()
    try:
        return [albums.choose_cover(album, pk) for _ in range(25)]
    finally:
        connections.close_all()

with ThreadPoolExecutor(4) as pool:
    print(all(map(all, pool.map(choose, ids))), album.entries.filter(is_cover=True).count())
album.delete()
# They have no files.
GeneratedImage.objects.filter(generation__in=ids).delete()
"""

RUNNING = "SELECT id::text FROM generation_generation WHERE state = 'running' AND pool = 'default'"

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Installation:
    """The environment that all hosts share, and the processes that run on them, each with a DATA_DIR of its own."""

    def __init__(self, folder: Path, database: PostgreSQLServer, redis: RedisServer, s3: S3Server) -> None:
        self.folder = folder
        self.database = database
        self.redis = redis
        self.s3 = s3
        self.token = ""
        self.url = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "LIMITS": "off",
            "DRAIN_SECONDS": "0",
            "DATABASE_URL": database.url,
            "REDIS_URL": redis.url,
            "S3_BUCKET": s3.bucket,
            "S3_ENDPOINT_URL": s3.url,
            "S3_PUBLIC_ENDPOINT_URL": s3.public_url,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "SECRET_KEY": "the same on every host, or nobody stays signed in",
            "WATERMARK_KEY": "the same on every host, or each marks in its own way",
            "WAIT_SECONDS": str(HELD_SECONDS),
            "LEASE_SECONDS": "2",
            "THREADS": "1",
            "MODELS_OFFLINE": "on",
        }

    def environment(self, host: str, **others: str) -> dict[str, str]:
        return {**self._environment, "DATA_DIR": str(self.folder / host), **others}

    def manage(self, *arguments: str, **others: str) -> str:
        """Return what a `manage.py` command prints."""
        command = [sys.executable, "manage.py", *arguments]
        environment = self.environment("shell", **others)
        finished = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return finished.stdout.strip()

    def start(self, host: str, *arguments: str, **others: str) -> None:
        with (self.folder / f"{host}.log").open("wb") as log:
            self._processes[host] = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self.environment(host, **others),
                stdout=log,
                stderr=log,
            )

    def start_web(self, host: str, **others: str) -> str:
        """Start a web process and return its URL."""
        port = free_port()
        self.start(host, "web", PORT=str(port), **others)
        return f"http://127.0.0.1:{port}"

    def kill(self, host: str) -> None:
        self._processes[host].send_signal(signal.SIGKILL)
        self._processes.pop(host).wait()

    @contextmanager
    def paused_run(self) -> Iterator[Future[httpx.Response]]:
        """Pause worker-1 in the middle of the run of a request within this context. Yields the response to come.

        If the machine was so busy that the run had ended before the pause, another request is sent.
        """
        worker = self._processes["worker-1"]
        while True:
            held = self._post_in_thread(steps=50)
            worker.send_signal(signal.SIGSTOP)
            if self._is_denoising():
                break
            worker.send_signal(signal.SIGCONT)
            assert held.result().status_code == 200
        try:
            yield held
        finally:
            worker.send_signal(signal.SIGCONT)

    def _post_in_thread(self, steps: int) -> Future[httpx.Response]:
        """Send a request, and return the response to come once the first step of its run, or all of it, is done."""
        thread = ThreadPoolExecutor(1)
        held = thread.submit(self.post, steps=steps)
        thread.shutdown(wait=False)
        wait_until(lambda: held.done() or self._is_denoising(), "the first step of the run")
        return held

    def _is_denoising(self) -> bool:
        running = self.query(RUNNING)
        return bool(running) and "denoising" in str(self.record(running[0])["progress"])

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(WAIT_SECONDS)

    def missing(self, url: str) -> list[str] | None:
        """Return what `/ready` reports as missing; None if the web process does not answer."""
        try:
            response = httpx.get(f"{url}/ready", timeout=WAIT_SECONDS)
        except httpx.TransportError:
            return None
        assert (response.status_code == 200) is ("missing" not in response.json())
        return list(response.json().get("missing", []))

    def wait_for_readiness(self) -> None:
        wait_until(lambda: self.missing(self.url) == [], "readiness")

    def post(self, url: str = "", steps: int = 1) -> httpx.Response:
        return httpx.post(
            f"{url or self.url}/image-to-image",
            headers={"Authorization": f"Bearer {self.token}", "Cache-Control": "no-cache"},
            data={
                "prompt": "make it night",
                "model_id": model_for(steps),
                "num_inference_steps": str(steps),
                "seed": "7",
            },
            files={"image": ("a.png", pictures.photo(128, 128))},
            timeout=HELD_SECONDS,
        )

    def record(self, generation_id: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        response = httpx.get(f"{self.url}/generations/{generation_id}", headers=headers, timeout=WAIT_SECONDS)
        assert response.status_code == 200
        body: dict[str, Any] = response.json()
        return body

    def query(self, sql: str) -> list[Any]:
        """Return the first column of the rows that the database returns."""
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            return [row[0] for row in connection.execute(sql.encode())]

    def outputs(self, generation_id: str) -> list[str]:
        return sorted(path.name for path in (self.s3.objects / "outputs").rglob(f"{generation_id}/*"))

    def traces(self) -> tuple[int, set[str]]:
        """Return the number of generations and the names of all objects."""
        (count,) = self.query("SELECT count(*) FROM generation_generation")
        return count, self.s3.names()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with ExitStack() as stack:
        database = stack.enter_context(postgresql())
        redis = stack.enter_context(redis_server())
        s3 = stack.enter_context(s3_server())
        new_installation = Installation(tmp_path_factory.mktemp("hosts"), database, redis, s3)
        stack.callback(new_installation.stop)
        new_installation.manage("migrate")
        new_installation.start("worker-1", "worker")
        new_installation.start("reaper", "reaper")
        new_installation.url = new_installation.start_web("web")
        new_installation.token = new_installation.manage("createtoken", "alice", "--name", "tests", "--create")
        new_installation.manage("shell", "-v", "0", "-c", PREPARE)
        new_installation.wait_for_readiness()
        yield new_installation


def test_it_works(installation: Installation) -> None:
    response = installation.post()
    assert response.status_code == 200
    (image,) = response.json()["images"]
    assert image["seed"] == 7
    assert image["url"].startswith(f"{installation.s3.public_url}/{installation.s3.bucket}/outputs/")
    fetched = httpx.get(image["url"])
    assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(fetched.content)).size == (128, 128)

    record = installation.record(response.json()["id"])
    assert record["state"] == "succeeded"
    assert httpx.get(record["images"][0]["url"]).content == fetched.content


def test_addresses_are_signed_for_the_host_that_browsers_reach(installation: Installation) -> None:
    address = installation.post().json()["images"][0]["url"]
    internal = address.replace(installation.s3.public_url, installation.s3.url)
    assert internal != address
    assert [httpx.get(url).status_code for url in (address, internal)] == [200, 403]


def test_pictures_are_private(installation: Installation) -> None:
    signed = urlsplit(installation.post().json()["images"][0]["url"])
    others = [name for name in installation.s3.names() if name.endswith("-small.webp")]
    unsigned = signed._replace(query="")
    prolonged = signed._replace(query=signed.query.replace("X-Amz-Expires=604800", "X-Amz-Expires=604801"))
    another = signed._replace(path=f"/{installation.s3.bucket}/{others[0]}")
    assert prolonged != signed
    for url in (unsigned, prolonged, another):
        response = httpx.get(url.geturl())
        assert response.status_code in (400, 403)
        assert response.headers["content-type"].startswith("text/xml")


def test_history_shows_pictures_of_the_bucket(installation: Installation) -> None:
    generation_id = installation.post().json()["id"]
    with httpx.Client(base_url=installation.url, follow_redirects=True, timeout=WAIT_SECONDS) as browser:
        browser.get("/accounts/sign-in")
        form = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/accounts/sign-in", data=form).raise_for_status()
        page = browser.get("/history/")
        for query, is_found in [("q=NIG", True), ("q=it+night&seed=7", True), ("q=%27night", True), ("seed=8", False)]:
            results = browser.get(f"/history/?{query}")
            assert (results.status_code, generation_id in results.text) == (200, is_found)
        older = browser.get(f"/history/?q=night&state=succeeded&before={generation_id}")
        # The id is in addresses on this page, but there is no tile.
        assert (older.status_code, f"/history/{generation_id}/" in older.text) == (200, False)
    assert page.status_code == 200
    assert generation_id in page.text
    assert f"{installation.s3.public_url}/{installation.s3.bucket}/outputs/" in page.text


def test_generations_are_listed_and_deleted(installation: Installation) -> None:
    ids = [installation.post().json()["id"] for _ in range(2)]
    headers = {"Authorization": f"Bearer {installation.token}"}
    with httpx.Client(base_url=installation.url, headers=headers, timeout=WAIT_SECONDS) as client:
        filters = {
            "state": "succeeded",
            "prompt": "NIGHT",
            "nsfw": "false",
            "created_after": "2026-01-01",
            "limit": "1",
        }
        pages = [client.get("/generations", params=filters)]
        pages.append(client.get(pages[0].links["next"]["url"]))
        assert [page.json()["results"][0]["id"] for page in pages] == ids[::-1]
        picture = client.get(f"/generations/{ids[0]}/images/0").headers["location"]
        assert httpx.get(picture).status_code == 200
        assert client.delete(f"/generations/{ids[0]}").status_code == 204
        assert client.delete(f"/generations/{ids[0]}").status_code == 410
    sql = "SELECT generation_id::text FROM generation_words WHERE generation_words @@ '''@night'''::tsquery"
    indexed = installation.query(sql)
    assert ids[0] not in indexed
    assert ids[1] in indexed
    assert httpx.get(picture).status_code == 404
    assert [name for name in installation.s3.names() if ids[0] in name] == []


def test_a_user_exports_their_data_and_deletes_the_account(installation: Installation) -> None:
    objects = installation.s3.names()
    token = installation.manage("createtoken", "dora", "--name", "tests", "--create")
    installation.manage(
        "shell", "-v", "0", "-c", "from accounts.models import User; dora = User.objects.get(username='dora');"
        f"dora.set_password('{PASSWORD}'); dora.save()"
    )  # fmt: skip
    response = httpx.post(
        f"{installation.url}/image-to-image",
        headers={"Authorization": f"Bearer {token}"},
        data={"prompt": "make it night", "num_inference_steps": "1"},
        files={"image": pictures.photo(128, 128)},
        timeout=WAIT_SECONDS,
    )
    assert response.status_code == 200
    with httpx.Client(base_url=installation.url, timeout=WAIT_SECONDS) as browser:
        post(browser, "/accounts/sign-in", username="dora", password=PASSWORD)
        post(browser, "/settings/export")
        path = wait_until_found(browser, "/settings/export", r'href="(/settings/export/[\w-]+\.zip)"')
        redirect = browser.get(path)
        assert redirect.status_code == 302
        assert redirect.headers["Location"].startswith(
            f"{installation.s3.public_url}/{installation.s3.bucket}/exports/"
        )
        with zipfile.ZipFile(io.BytesIO(httpx.get(redirect.headers["Location"]).content)) as archive:
            assert archive.testzip() is None
            assert len([name for name in archive.namelist() if name.startswith("pictures/")]) == 2
        receipt = post(browser, "/settings/delete", password=PASSWORD).headers["Location"]
        wait_until_found(browser, receipt, "Your account is (deleted)")
        assert "<strong>4</strong> files" in browser.get(receipt).text
    assert installation.s3.names() == objects


def test_the_audit_log_is_append_only(installation: Installation) -> None:
    values = "{'whole': 1.0, 'large': 1e16, 'small': 1.5e-7, 'text': 'é'}"
    record = f"from accounts import audit; audit.record(None, 'pool.pause', 'a', None, {values})"
    installation.manage("shell", "-v", "0", "-c", "; ".join([record, record]))
    for sql in (
        "UPDATE accounts_auditentry SET actor_name = 'mallory'",
        "DELETE FROM accounts_auditentry",
        "TRUNCATE accounts_auditentry",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="accounts_auditentry is append-only"):
            installation.query(sql)
    assert installation.manage("verify_audit").startswith("intact up to entry ")


def test_hosts_have_no_local_data(installation: Installation) -> None:
    installation.post()
    for host in ("web", "worker-1", "reaper"):
        assert list((installation.folder / host).iterdir()) == []


def test_each_row_is_claimed_once_by_four_processes(installation: Installation) -> None:
    # Leases that do not expire during the test.
    claimed = installation.manage("shell", "-v", "0", "-c", CLAIM, LEASE_SECONDS="600").splitlines()
    assert len([ids for ids in claimed if ids]) > 1
    rows = installation.query("SELECT id::text FROM generation_generation WHERE pool = 'race' AND attempt = 1")
    assert len(rows) == 100
    assert sorted(row for ids in claimed for row in ids.split()) == sorted(rows)


def test_four_requests_choose_one_cover(installation: Installation) -> None:
    assert installation.manage("shell", "-v", "0", "-c", COVERS) == "True 1"


def test_a_bucket_that_refuses_is_named_and_nothing_is_half_created(installation: Installation) -> None:
    url = installation.start_web("stranger", S3_SECRET_KEY="not the secret")
    wait_until(lambda: installation.missing(url) == ["storage"], "the missing of the storage")
    before = installation.traces()
    assert_turned_away(installation.post(url))
    assert installation.traces() == before


def test_a_backup_has_the_database_of_one_moment_and_lists_the_bucket(installation: Installation) -> None:
    installation.post().raise_for_status()
    place = f"s3://{installation.s3.backups}/dreamsite"
    path = {"PATH": f"{installation.database.programs}:{os.environ['PATH']}"}
    assert "only listed" in installation.manage("backup", place, **path)

    with psycopg.connect(installation.database.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    restored = installation.database.url.replace("/postgres?", "/restored?")
    assert "restored" in installation.manage("restore", place, DATABASE_URL=restored, **path)
    with psycopg.connect(restored) as rows:
        for table in ("generation_generation", "generation_generatedimage", "accounts_apitoken"):
            digest = f"SELECT md5(string_agg(row::text, ',' ORDER BY id)) FROM {table} row"  # noqa: S608
            assert rows.execute(digest.encode()).fetchone() == tuple(installation.query(digest))
    assert "all are there" in installation.manage("check_files", DATABASE_URL=restored)

    command = [sys.executable, "manage.py", "backup", place]
    without_client = installation.environment("shell", PATH=str(installation.folder))
    finished = subprocess.run(command, cwd=ROOT, env=without_client, stderr=subprocess.PIPE, text=True)
    assert (finished.returncode, "pg_dump is not on the PATH: install" in finished.stderr) == (1, True)


def test_requests_skip_connections_that_the_database_has_closed(installation: Installation) -> None:
    generation_id = installation.post().json()["id"]
    assert installation.query(CUT) > [0]
    assert installation.record(generation_id)["state"] == "succeeded"
    assert installation.post().status_code == 200


def test_a_generation_whose_pictures_cannot_be_stored_fails(installation: Installation) -> None:
    # By then the worker has read the input.
    with installation.paused_run() as held:
        installation.s3.kill()
    try:
        response = held.result()
    finally:
        installation.s3.start()
    assert response.status_code == 500
    assert response.json()["detail"] == {
        "msg": "The pictures could not be stored or read; try again later.",
        "code": "storage_failed",
    }
    assert installation.outputs(response.headers["x-generation-id"]) == []


def test_a_result_is_stored_after_an_outage_of_the_database(installation: Installation) -> None:
    """The outage begins during a run and ends after it, when the lease has expired: a second attempt may come first."""
    with installation.paused_run() as held:
        installation.database.stop()
    message = "the database cannot be reached; trying again"
    wait_until(lambda: message in (installation.folder / "worker-1.log").read_text(), "the end of the run")
    installation.database.start()
    response = held.result()
    assert response.status_code == 200
    record = installation.record(response.json()["id"])
    assert record["state"] == "succeeded"
    attempts = (["1-0-small.webp", "1-0.png"], ["2-0-small.webp", "2-0.png"])
    assert installation.outputs(response.json()["id"]) in attempts


def test_a_client_gets_its_pictures_although_the_worker_is_killed(installation: Installation) -> None:
    with installation.paused_run() as held:
        installation.kill("worker-1")
        assert not held.done()
        installation.start("worker-2", "worker")
    response = held.result()
    assert response.status_code == 200
    assert len(response.json()["images"]) == 1
    small, whole = installation.outputs(response.json()["id"])
    attempt = int(whole.partition("-")[0])
    assert (small, whole) == (f"{attempt}-0-small.webp", f"{attempt}-0.png")
    assert attempt > 1


def test_without_redis_nothing_is_half_created(installation: Installation) -> None:
    """Last in this module, since the worker takes long to connect to Redis again."""
    before = installation.traces()
    installation.redis.kill()
    try:
        assert_turned_away(installation.post())
        assert installation.traces() == before
    finally:
        installation.redis.start()


def assert_turned_away(response: httpx.Response) -> None:
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["detail"] == {
        "msg": "The service cannot take requests now; try again in 5 seconds.",
        "code": "unavailable",
    }


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send the form of a page."""
    browser.get(path)
    answer = browser.post(path, data={**fields, "csrfmiddlewaretoken": browser.cookies["csrftoken"]})
    assert answer.status_code == 302, answer.text
    return answer


def wait_until_found(browser: httpx.Client, path: str, pattern: str) -> str:
    """Reload the page until the pattern matches, and return its first group."""
    wait_until(lambda: re.search(pattern, browser.get(path).text), f"{pattern} on {path}")
    match = re.search(pattern, browser.get(path).text)
    assert match is not None
    return match[1]
