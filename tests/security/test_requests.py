"""Requests that cost more than they seem to: many with pictures, and pictures that are small as files only."""

import io
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import httpx
from PIL import Image

from tests.support import pictures
from tests.support.web_process import WebProcess

MEGABYTE = 1024 * 1024


def dry_run(web: WebProcess, user: str, picture: bytes, **fields: str) -> httpx.Response:
    with web.client(user) as client:
        data = {"prompt": "make it night", "dry_run": "true", **fields}
        return client.post("/image-to-image", data=data, files={"image": picture})


def test_a_small_file_with_many_pixels_takes_no_memory_of_the_web_process(web: WebProcess) -> None:
    """Decoded, this takes 16 bytes for each of 49 million pixels."""
    stream = io.BytesIO()
    Image.new("RGBA", (16_383, 3000)).save(stream, "WEBP", lossless=True)
    bomb = stream.getvalue()
    assert len(bomb) < 10_000
    dry_run(web, "alice", pictures.photo(32, 32))
    web.reset_peak_memory()
    before = web.memory()
    with web.serving_others():
        response = dry_run(web, "alice", bomb)
    assert response.status_code == 200
    assert web.peak_memory() - before < 60 * MEGABYTE


def test_many_decodings_of_one_user_delay_nobody_else(web: WebProcess) -> None:
    photo = pictures.photo(3000, 2000, "JPEG")
    with web.serving_others(), ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: dry_run(web, "alice", photo), range(16)))
    assert {response.status_code for response in responses} == {200}


def until_limited(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send the same invalid request until it is answered with 429, and return that answer."""
    # An address could send 120 of them.
    for _ in range(30):
        if (response := send()).status_code == 429:
            assert 1 <= int(response.headers["Retry-After"]) <= 60
            assert response.headers["RateLimit-Remaining"] == "0"
            return response
        assert response.status_code in (400, 422)
    raise AssertionError("the requests are not limited")


def test_refused_requests_count_for_their_user_by_whatever_they_are_sent(web: WebProcess) -> None:
    with closing(sqlite3.connect(web.data_dir / "db.sqlite3", timeout=60)) as database, database:
        database.execute("UPDATE accounts_user SET max_per_minute = 2 WHERE username = 'charlie'")
    data = {"prompt": "x", "strength": "2"}
    files = {"image": pictures.photo(32, 32)}
    with web.serving_others(), web.client("charlie") as client:
        by_api = until_limited(lambda: client.post("/image-to-image", data=data, files=files))
        assert by_api.json()["detail"]["code"] == "too_many_requests"
        by_alias = until_limited(lambda: client.post("/v1/images/edits", data=data, files=files))
        assert by_alias.json()["error"]["code"] == "too_many_requests"
        assert client.get("/generations").status_code == 200
    with closing(web.browser("charlie")) as browser:
        # This one tells whose the session is; the next count for that user.
        assert browser.get("/").status_code == 200
        form = {**data, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        headers = {"X-Requested-With": "fetch"}
        in_studio = until_limited(lambda: browser.post("/", data=form, files=files, headers=headers))
        assert "try again in" in in_studio.json()["errors"][""][0]


def test_requests_without_a_token_are_refused_whatever_their_method(web: WebProcess) -> None:
    for path in ("/generations", "/models", f"/generations/{uuid4()}/cancel", f"/generations/{uuid4()}/images/1"):
        for method in ("GET", "POST", "DELETE", "PUT"):
            assert httpx.request(method, f"{web.url}{path}").status_code == 401
