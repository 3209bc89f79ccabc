"""`/verify` takes pictures from anybody: bounded by size, by address and at a time, and never at the cost of users."""

import os
import threading

import httpx

from tests.support import pictures
from tests.support.web_process import WebProcess

BROWSER = {"Accept": "text/html,*/*;q=0.8"}


def post(client: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    return client.post("/verify", files={"image": ("picture", content)}, headers=headers)


def test_too_much_is_refused_before_it_is_read(web: WebProcess) -> None:
    with web.client(address="127.0.0.31") as client:
        answer = post(client, os.urandom(21 * 1024 * 1024))
        assert answer.status_code == 413
        assert answer.json()["detail"]["code"] == "upload_too_large"
        page = post(client, os.urandom(21 * 1024 * 1024), **BROWSER)
        assert page.status_code == 413
        assert "send a smaller picture" in page.text
        assert "<form" in page.text


def test_an_address_has_its_limit_and_others_have_theirs(web: WebProcess) -> None:
    content = b"no picture"
    with web.client(address="127.0.0.32") as client, web.client(address="127.0.0.33") as other:
        assert [post(client, content).status_code for _ in range(10)] == [422] * 10
        # A few seconds may have passed meanwhile, in which the limit has grown.
        while (answer := post(client, content)).status_code != 429:
            pass
        assert int(answer.headers["Retry-After"]) in range(1, 8)
        assert answer.json()["detail"]["code"] == "too_many_requests"
        assert "10 pictures" in answer.json()["detail"]["msg"]
        while (page := post(client, content, **BROWSER)).status_code != 429:
            pass
        assert "Retry-After" in page.headers
        assert "10 pictures" in page.text
        assert client.get("/verify", headers=BROWSER).status_code == 200
        assert post(other, content).status_code == 422


def test_bodies_that_do_not_end_take_no_room_of_users(web: WebProcess) -> None:
    head = b"POST /verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    head += b"Content-Length: 20000000\r\n\r\n"
    connections = [web.connect("127.0.0.34") for _ in range(2)]
    try:
        for connection in connections:
            connection.sendall(head + b"x" * 100)
        with web.client(address="127.0.0.34") as client:
            # Until both are held; what they hold is of this address alone.
            while (answer := post(client, b"x" * 3_000_000)).status_code == 422:
                pass
            assert answer.status_code == 429
        with web.client(address="127.0.0.35") as other:
            assert post(other, b"x" * 1000).status_code == 422
    finally:
        for connection in connections:
            connection.close()


def test_users_are_served_while_strangers_send_pictures(web: WebProcess) -> None:
    content = pictures.photo(2000, 1500, "JPEG")

    def send(number: int) -> None:
        with web.client(address=f"127.0.0.{number}") as client:
            statuses.append(post(client, content).status_code)

    statuses: list[int] = []
    strangers = [threading.Thread(target=send, args=[number]) for number in range(40, 46)]
    with web.serving_others():
        for stranger in strangers:
            stranger.start()
        for stranger in strangers:
            stranger.join()
    assert statuses == [200] * 6
