"""Headers of all responses: the request id (also in logs and rows), rate limits, CORS, compression, no-store."""

import asyncio
import logging
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import request_ids
from accounts.models import ApiToken, User
from generation.api.urls import urlpatterns
from generation.api.views import HeldAnswer, JsonView
from generation.asgi.request_id_middleware import request_id_middleware
from generation.engine.engine import Engine, EngineSettings
from generation.images import storage
from generation.jobs import limits, queue
from generation.models import DiffusionModel, Generation
from tests.support import pictures
from tests.support.execution import run_batch
from tests.support.generations import make_generation
from tests.support.jobs import submit
from tests.support.service import WAIT_SECONDS, Service, wait_until

GENERATED_ID = re.compile(r"[0-9a-f]{32}")
FORM: dict[str, Any] = {
    "data": {"prompt": "make it night", "num_inference_steps": "1"},
    "files": {"image": ("a", pictures.photo(128, 128))},
}
API_ROUTES = [
    pattern
    for pattern in urlpatterns
    if issubclass(view := getattr(pattern.callback, "view_class", object), JsonView)
    and not issubclass(view, HeldAnswer)
]


def address(route: Any) -> str:
    return "/" + re.sub("<.*?>", str(UUID(int=7)), str(route.pattern).replace("<int:number>", "0"))


@contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """Put a file in place of this folder, so that nothing can be stored in it."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


# Request ids.


def test_every_response_has_an_id(service: Service, alices_key: str) -> None:
    paths = [
        "/health",
        "/ready",
        "/openapi.json",
        "/nowhere",
        "/generations/x",
        "/image-to-image",
        "/static/sample.jpg",
    ]
    ids = [httpx.get(service.url + path).headers["x-request-id"] for path in paths]
    assert all(GENERATED_ID.fullmatch(request_id) for request_id in ids)
    assert len(set(ids)) == len(ids)
    too_large = httpx.post(f"{service.url}/nowhere", content=b"x" * 1_000_001, headers={"X-Request-Id": "mine"})
    assert (too_large.status_code, too_large.headers["x-client-request-id"]) == (413, "mine")
    assert GENERATED_ID.fullmatch(too_large.headers["x-request-id"])


def test_the_clients_id_is_kept_beside_ours(service: Service, alices_key: str) -> None:
    mine = f"job-7:{uuid4()}"
    with service.client(alices_key) as client:
        answer = client.post("/image-to-image", **FORM, headers={"X-Request-Id": mine})
    assert answer.headers.get_list("x-client-request-id") == [mine]
    (ours,) = answer.headers.get_list("x-request-id")
    assert GENERATED_ID.fullmatch(ours)
    sql = "SELECT request_id, client_request_id FROM generation_generation WHERE client_request_id = ?"
    assert service.query(sql, mine) == [(ours, mine)]


def test_an_id_of_ours_is_no_id_for_others(service: Service) -> None:
    ours = httpx.get(f"{service.url}/health").headers["x-request-id"]
    for header in ("X-Request-Id", "X-Client-Request-Id"):
        assert httpx.get(f"{service.url}/health", headers={header: ours}).headers["x-request-id"] != ours


@pytest.mark.parametrize("text", ["", "a b", "a\r\nSet-Cookie: a=b", "a\n", "é", "a,b", "a]", "\x00", "x" * 65, "１"])
def test_an_invalid_id_is_left_out(text: str) -> None:
    assert request_ids.valid(text) == ""


def test_hostile_headers_are_left_out(service: Service) -> None:
    host = urlsplit(service.url)
    for lines in (b"", b"X-Request-Id:", b"X-Request-Id: " + b"x" * 65, b"X-Request-Id: \xff\xc3\xa9", b"X-Request-Id: [a]",
                  b"X-Request-Id: a\r\nX-Request-Id: b"):  # fmt: skip
        with socket.create_connection((host.hostname, host.port), timeout=WAIT_SECONDS) as connection:
            head = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + (lines + b"\r\n" if lines else b"")
            connection.sendall(head + b"\r\n")
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        values = re.findall(rb"(?i)^x-request-id: (.*?)\r$", received, re.M)
        assert [bool(GENERATED_ID.fullmatch(value.decode())) for value in values] == [True], lines
        assert b"x-client-request-id" not in received.lower(), lines


def test_log_lines_of_web_and_worker_have_the_request_id(service: Service, alices_key: str) -> None:
    turned_away, failed = (uuid4().hex for _ in range(2))
    with service.client(alices_key) as client:
        client.post("/image-to-image", **FORM)
        with no_room(service.data_dir / "media" / "inputs"):
            answer = client.post("/image-to-image", **FORM, headers={"X-Request-Id": turned_away})
        assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["x-client-request-id"] == turned_away
        first = answer.headers["x-request-id"]
        with no_room(service.data_dir / "media" / "outputs"):
            answer = client.post("/image-to-image", **FORM, headers={"X-Request-Id": failed})
        assert (answer.status_code, answer.json()["detail"]["code"]) == (500, "storage_failed")
        assert answer.headers["retry-after"] == "30"
        assert "x-should-retry" not in answer.headers
        assert answer.headers["x-client-request-id"] == failed
        second = answer.headers["x-request-id"]
    generation = answer.headers["x-generation-id"]
    refused = f"[{first} client:{turned_away}] generation.api.errors: request refused, service unavailable"
    wait_until(lambda: refused in service.output)
    line = f"[{second}] generation.worker.batch_member: the pictures of generation {generation} cannot be stored"
    wait_until(lambda: line in service.output)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis")
def test_log_lines_of_a_batch_have_all_its_ids_and_others_their_own(
    alices: ApiToken, tiny_edit: DiffusionModel, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH = 4
    DiffusionModel.objects.update(batching_verified="fingerprint")
    for request_id in ("one", "two", "three"):
        row = submit(alices, num_inference_steps="2")
        Generation.objects.filter(pk=row.pk).update(request_id=request_id)
    batch = queue.claim("default", "worker-1", {tiny_edit.pk: "fingerprint"})
    assert batch[1].input.name
    storage.discard([batch[1].input.name])
    written: list[tuple[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append((record.__dict__["request_id"], record.getMessage()))

    keep = Keep()
    keep.addFilter(request_ids.AddRequestId())
    logger = logging.getLogger("generation.worker")
    logger.addHandler(keep)

    def break_down() -> bool:
        raise RuntimeError("the driver has failed")

    try:
        engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
        run_batch(batch, engine, break_down)
    finally:
        logger.removeHandler(keep)
    assert written == [
        ("two", f"the input of generation {batch[1].pk} cannot be read"),
        ("one,two,three", f"the batch of generation {batch[0].pk} failed unexpectedly"),
    ]
    assert request_ids.current() == ""


def test_concurrent_requests_have_separate_ids() -> None:
    """In the event loop and in its worker threads, which Django uses."""
    request_ids_of: dict[str, list[str]] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.01)
        request_ids_of[scope["path"]] = [request_ids.of_client(), await asyncio.to_thread(request_ids.of_client)]

    async def serve() -> None:
        identified: Any = request_id_middleware(application)
        scopes = [
            {"type": "http", "path": str(number), "headers": [(b"x-request-id", str(number).encode())]}
            for number in range(20)
        ]
        await asyncio.gather(*(identified(scope, None, None) for scope in scopes))

    asyncio.run(serve())
    assert request_ids_of == {str(number): [str(number)] * 2 for number in range(20)}


# Rate limits


@pytest.mark.django_db
def test_responses_have_the_rate_limit(
    alice: User,
    alices_token: str,
    client: Client,
    settings: Settings,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    settings.USER_MAX_PER_MINUTE = 3
    bearer = {"Authorization": f"Bearer {alices_token}"}
    with django_assert_num_queries(1):
        assert limits.rate(alice) == limits.Rate(3, 3, 0)
    rows = [make_generation(alice) for _ in range(2)]
    for path, status in ((f"/generations/{rows[0].pk}", 200), (f"/generations/{uuid4()}", 404)):
        answer = client.get(path, headers=bearer)
        assert answer.status_code == status
        assert (answer["RateLimit-Limit"], answer["RateLimit-Remaining"]) == ("3", "1")
        assert 55 <= int(answer["RateLimit-Reset"]) <= 61
    refused = client.post("/image-to-image", headers=bearer)
    assert (refused.status_code, refused["RateLimit-Remaining"]) == (422, "1")
    assert "RateLimit-Limit" not in client.get(f"/generations/{rows[0].pk}")
    settings.LIMITS = False
    with django_assert_num_queries(0):
        assert limits.rate(alice) is None
    assert "RateLimit-Limit" not in client.get(f"/generations/{rows[0].pk}", headers=bearer)


@pytest.mark.django_db
def test_a_429_has_the_limit_that_was_reached(
    alice: User, alices_token: str, client: Client, settings: Settings
) -> None:
    settings.USER_MAX_QUEUED = 1
    make_generation(alice, Generation._meta.get_field("state").default)
    refused = client.post("/image-to-image", headers={"Authorization": f"Bearer {alices_token}"})
    assert refused.json()["detail"]["code"] == "too_many_queued"
    assert (refused["RateLimit-Limit"], refused["RateLimit-Reset"]) == ("1", refused["Retry-After"])


def test_fifty_posts_over_http_and_the_headers_of_a_429(limited_service: Service) -> None:
    token = limited_service.manage("createtoken", "dora", "--name", "tests", "--create")
    limited_service.query("UPDATE accounts_user SET max_per_minute = 3 WHERE username = 'dora'")
    inputs = Path(limited_service.data_dir, "media", "inputs")
    before = len(list(inputs.rglob("*.webp")))

    def post(_: int) -> httpx.Response:
        with limited_service.client(token) as client:
            fields = {"prompt": "make it night", "num_inference_steps": "1"}
            return client.post("/image-to-image", data=fields, files={"image": pictures.photo(128, 128)})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(50)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(202) + statuses.count(200), statuses.count(429)) == (3, 47)
    refusal = next(answer for answer in answers if answer.status_code == 429)
    assert refusal.json()["detail"]["code"] == "too_many_requests"
    # Which of the two limits is reached depends on the order: of accepted requests, or of sent pictures, twice as many.
    assert refusal.headers["ratelimit-limit"] in ("3", "6")
    assert refusal.headers["ratelimit-remaining"] == "0"
    assert refusal.headers["retry-after"] == refusal.headers["ratelimit-reset"]
    assert 1 <= int(refusal.headers["retry-after"]) <= 61
    # Answers to held clients have them too.
    accepted = [answer for answer in answers if answer.status_code != 429]
    assert all(answer.headers["ratelimit-limit"] == "3" for answer in accepted)
    assert "0" in {answer.headers["ratelimit-remaining"] for answer in accepted} <= {"0", "1", "2"}
    assert len(list(inputs.rglob("*.webp"))) == before + 6


# Methods.


@pytest.mark.django_db
@pytest.mark.parametrize("route", API_ROUTES, ids=address)
def test_options_need_no_token_and_405_lists_the_allowed_methods(route: Any, client: Client, alices_token: str) -> None:
    answer = client.options(address(route), headers={"Origin": "https://page.example"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer["Cache-Control"] == "no-store"
    allowed = answer["Allow"].split(", ")
    assert "OPTIONS" in allowed
    assert ("HEAD" in allowed) == ("GET" in allowed)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - set(allowed):
        refused = client.generic(method, address(route), headers={"Authorization": f"Bearer {alices_token}"})
        assert (refused.status_code, refused["Allow"]) == (405, answer["Allow"])


def test_internal_paths_have_no_options(service: Service) -> None:
    answer = httpx.options(f"{service.url}/generations/{uuid4()}/answer")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")
    assert "allow" not in answer.headers


def test_head_is_get_without_its_body(service: Service, alices_key: str) -> None:
    with service.client(alices_key) as client:
        generation = client.post("/image-to-image", **FORM).json()["id"]
        for path in (f"/generations/{generation}", "/openapi.json", "/health"):
            plain = {"Accept-Encoding": "identity"}
            whole, head = client.get(path, headers=plain), client.head(path, headers=plain)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(whole.content))


# Compression and caches.


def test_json_is_compressed_for_clients_that_accept_gzip(service: Service, alices_key: str) -> None:
    with service.client(alices_key) as client:
        # Several pictures, since compression can make a short response longer.
        form = {**FORM, "data": {**FORM["data"], "num_images_per_prompt": "3"}}
        held = client.post("/image-to-image", **form, headers={"Accept-Encoding": "gzip"})
        assert held.headers["content-encoding"] == "gzip"
        assert int(held.headers["content-length"]) < len(held.content)
        picture = client.get(held.json()["images"][0]["url"], headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in picture.headers
        for path in (f"/generations/{held.json()['id']}", "/openapi.json"):
            small = client.get(path, headers={"Accept-Encoding": "gzip"})
            plain = client.get(path, headers={"Accept-Encoding": "identity"})
            assert small.headers["content-encoding"] == "gzip"
            assert "content-encoding" not in plain.headers
            assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
            assert small.json().keys() == plain.json().keys()
