"""Bodies with `Content-Encoding`, over real HTTP; and how much memory a decompression bomb takes."""

import asyncio
import gzip
import tempfile
import tracemalloc
import zlib
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from generation.asgi import bodies
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


def test_a_bomb_takes_no_more_memory_than_the_limit(settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 1_000_000
    scope = {"headers": [(b"content-encoding", b"gzip")]}

    async def receive() -> Any:
        return {"type": "http.request", "body": BOMB}

    tracemalloc.start()
    try:
        with tempfile.TemporaryFile() as body, pytest.raises(Refusal) as refused:
            asyncio.run(bodies.read(scope, receive, body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code is ErrorCode.UPLOAD_TOO_LARGE
    assert peak < 5_000_000
