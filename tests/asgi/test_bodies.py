"""Bodies with `Content-Encoding`, over real HTTP; how long they may take, and how much room they and a bomb get."""

import asyncio
import gzip
import os
import tempfile
import tracemalloc
import zlib
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.core.files.base import ContentFile
from django.test import RequestFactory
from pytest_django import Settings

from generation.asgi import bodies
from generation.asgi.body_budget import BodyBudget
from generation.parameters import ErrorCode, Refusal
from tests.support.forms import CONTENT_TYPE, form, part
from tests.support.service import Service

FORM = form(part('name="prompt"', b"make it night"), part('name="dry_run"', b"true"))
HALF = len(FORM) // 2
# Far over the limit of the service that the tests share, and compressed far below it.
BOMB = gzip.compress(bytes(30_000_000), 1)


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def post(
    service: Service, body: bytes, coding: str, path: str = "/image-to-image", **headers: str | None
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {service.token}", "Content-Type": CONTENT_TYPE, **headers}
    present = {name: value for name, value in headers.items() if value is not None}
    return httpx.post(service.url + path, content=body, headers={**present, "Content-Encoding": coding})


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(FORM)),
        ("X-GZip", gzip.compress(FORM)),
        ("gzip", gzip.compress(FORM[:HALF]) + gzip.compress(FORM[HALF:])),
        ("deflate", zlib.compress(FORM)),
        ("deflate", raw_deflate(FORM)),
        ("identity, gzip", gzip.compress(FORM)),
        ("identity", FORM),
        ("", FORM),
    ],
    ids=range(8),
)
def test_a_compressed_body_is_read(service: Service, coding: str, body: bytes) -> None:
    answer = post(service, body, coding)
    assert (answer.status_code, "effective" in answer.json()) == (200, True), answer.text


@pytest.mark.parametrize("path", ["/image-to-image", "/v1/images/edits", "/"])
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate, br"])
def test_other_ways_are_415_and_say_which_are_supported(service: Service, path: str, coding: str) -> None:
    answer = post(service, b"compressed", coding, path)
    problem = answer.json()["error"] if path.startswith("/v1") else answer.json()["detail"]
    assert (answer.status_code, problem["code"]) == (415, "unsupported_encoding")
    assert f"Content-Encoding {coding} is not supported" in problem.get("msg", problem.get("message"))
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", FORM),
        ("gzip", gzip.compress(FORM)[:-20]),
        ("gzip", gzip.compress(FORM)[:-6] + b"\0\0\0\0\0\0"),
        ("gzip", gzip.compress(FORM) + b"more"),
        # The time for each member is bounded by their number.
        ("gzip", gzip.compress(FORM) + gzip.compress(b"") * 1000),
        ("deflate", FORM),
        ("deflate", zlib.compress(FORM)[:-20]),
        ("deflate", raw_deflate(FORM)[:-20]),
    ],
    ids=range(8),
)
def test_a_damaged_body_is_refused(service: Service, coding: str, body: bytes) -> None:
    answer = post(service, body, coding)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "malformed_request")
    assert answer.json()["detail"]["msg"].startswith(f"The body is not what its Content-Encoding says, {coding}")


def test_the_limit_holds_for_what_is_decompressed(service: Service) -> None:
    for coding, body in (("gzip", BOMB), ("deflate", zlib.compress(bytes(30_000_000), 1))):
        assert len(body) < 200_000
        answer = post(service, body, coding)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "upload_too_large")


def test_401_comes_before_what_is_wrong_with_the_body(service: Service) -> None:
    for coding in ("br", "gzip"):
        assert post(service, b"x", coding, Authorization=None).status_code == 401


def read(*chunks: bytes, is_ended: bool = True, budget: BodyBudget | None = None) -> int:
    """Read a chunked body of these chunks, and return its size. If it is not ended, the client sends no more."""
    rest = iter(chunks)

    async def receive() -> Any:
        if (chunk := next(rest, None)) is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not is_ended:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b""}

    scope = {"method": "POST", "path": "/image-to-image", "headers": [(b"transfer-encoding", b"chunked")]}
    with tempfile.TemporaryFile() as body, (budget or BodyBudget()).share("alice") as share:
        return asyncio.run(bodies.read(scope, receive, body, share))


def test_a_body_that_does_not_go_on_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_WINDOW_SECONDS", 0.2)
    assert read(b"a" * 100_000, b"b") == 100_001
    # However much came before.
    for chunks in ([], [b"a" * 100_000] * 5, [b"a"] * 5):
        with pytest.raises(Refusal) as refused:
            read(*chunks, is_ended=False)
        assert refused.value.code is ErrorCode.REQUEST_TIMEOUT


def test_a_body_that_takes_minutes_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_MAX_SECONDS", 0.0)
    with pytest.raises(Refusal) as refused:
        read(b"a", is_ended=False)
    assert refused.value.code is ErrorCode.REQUEST_TIMEOUT


def test_bodies_of_one_client_and_of_all_have_a_budget(settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    budget = BodyBudget()
    with ExitStack() as held:

        def hold(owner: str, size: int) -> None:
            held.enter_context(budget.share(owner)).resize(size)

        hold("alice", 7_999)
        hold("alice", 1)
        with pytest.raises(Refusal) as refused:
            hold("alice", 1)
        assert (refused.value.code, refused.value.code.status) == (ErrorCode.TOO_MANY_UPLOADS, 429)
        # What is read of a body without a size counts, too, and what was refused does not.
        with pytest.raises(Refusal):
            read(b"a", budget=budget)
        for owner in ("bob", "charlie", "dave"):
            hold(owner, 8_000)
        with pytest.raises(Refusal) as refused:
            hold("erin", 1)
        assert (refused.value.code, refused.value.headers["Retry-After"]) == (ErrorCode.UPLOADS_FULL, "5")
    assert read(b"a" * 1000, budget=budget) == 1000


def test_a_large_file_of_a_form_has_no_name(rf: RequestFactory) -> None:
    """Else it would be left in the temporary directory if the process were killed."""
    content = bytes(4_000_000)
    request = rf.post("/", {"image": ContentFile(content, "a.png")})
    file: Any = request.FILES["image"]
    assert (file.name, file.size, file.read()) == ("a.png", len(content), content)
    assert os.fstat(file.fileno()).st_nlink == 0
    request.close()


def test_a_bomb_takes_no_more_memory_than_the_limit(settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 1_000_000
    headers = [(b"content-encoding", b"gzip"), (b"content-length", str(len(BOMB)).encode())]
    scope = {"method": "POST", "path": "/image-to-image", "headers": headers}

    async def receive() -> Any:
        return {"type": "http.request", "body": BOMB}

    tracemalloc.start()
    try:
        with (
            tempfile.TemporaryFile() as body,
            BodyBudget().share("alice") as share,
            pytest.raises(Refusal) as refused,
        ):
            asyncio.run(bodies.read(scope, receive, body, share))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code is ErrorCode.UPLOAD_TOO_LARGE
    assert peak < 5_000_000
