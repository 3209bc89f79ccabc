"""Requests for host names that the service has, and for others."""

import re

import httpx
import pytest
from django.test import RequestFactory

from accounts import unknown_hosts
from dreamsite.host_names import host_names
from tests.support.html import squeeze
from tests.support.service import Service, wait_until

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104


def get(service: Service, host: str, path: str = "/history/") -> httpx.Response:
    return httpx.get(service.url + path, headers={"Host": host})


def test_an_unknown_name_is_told_with_the_setting(service: Service) -> None:
    page = get(service, "dreams.example:8000")
    assert (page.status_code, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
    said = (
        "This site does not answer to the name “dreams.example”. If it should, whoever runs it adds the name to the "
        "setting ALLOWED_HOSTS."
    )
    assert said in squeeze(page.text)
    assert "127.0.0.1" not in page.text
    assert "localhost" not in page.text
    answer = get(service, "dreams.example", "/models")
    assert (answer.status_code, answer.json()["detail"]) == (400, {"msg": said, "code": "malformed_request"})
    assert get(service, "dreams.example", "/health").status_code == 200


def test_an_unknown_name_is_logged_once(service: Service) -> None:
    for host in ("once.example", "ONCE.example:81", "then.example"):
        get(service, host)
    wait_until(lambda: "'then.example'" in service.output, "the line of the log")
    lines = [line for line in service.output.splitlines() if "once.example" in line]
    assert len(lines) == 1
    assert "add it to the setting ALLOWED_HOSTS" in lines[0]


@pytest.mark.parametrize("host", ["my_service:8000", "<b>x</b>", "a" * 300, "x\u00e9", "a b"])
def test_a_name_that_no_host_can_have_is_told(service: Service, host: str) -> None:
    page = httpx.get(f"{service.url}/history/", headers={b"Host": host.encode("latin-1")})
    assert page.status_code == 400
    assert "is not a valid host name" in page.text
    assert "<b>x" not in page.text


def test_lines_of_the_log_are_bounded_and_single(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unknown_hosts, "_logged", set())
    requests = RequestFactory()
    for name in ("a\nb\x1b[31m", *(f"{number}.example" for number in range(200))):
        unknown_hosts.message(requests.get("/", headers={"host": name}))
    assert len(caplog.messages) == 100
    assert all(message.isprintable() for message in caplog.messages)


def test_a_service_on_all_addresses_has_the_names_of_its_machine(limited_service: Service) -> None:
    port = limited_service.url.rpartition(":")[2]
    names = host_names(ALL_ADDRESSES)
    wait_until(lambda: "on the network:" in limited_service.output, "the list of addresses")
    assert f"on the network: {' '.join(f'http://{name}:{port}' for name in names)}\n" in limited_service.output
    for name in names:
        address = f"http://{name}:{port}"
        with httpx.Client(base_url=limited_service.url, headers={"Host": f"{name}:{port}"}) as browser:
            page = browser.get("/accounts/sign-in")
            assert page.status_code == 200
            token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
            form = {"username": "admin", "password": limited_service.password, "csrfmiddlewaretoken": token}
            cookies = {"Cookie": f"csrftoken={page.cookies['csrftoken']}"}
            for origin, status in ((address, 302), ("http://evil.example", 403)):
                answer = browser.post("/accounts/sign-in", data=form, headers={"Origin": origin, **cookies})
                assert answer.status_code == status
    assert get(limited_service, "evil.example").status_code == 400


def test_the_addresses_of_the_machine_can_be_opened(limited_service: Service) -> None:
    port = limited_service.url.rpartition(":")[2]
    for name in host_names(ALL_ADDRESSES):
        if re.fullmatch(r"[0-9.]+", name):
            assert httpx.get(f"http://{name}:{port}/accounts/sign-in").status_code == 200


def test_hosts_are_written_as_urls_have_them() -> None:
    assert host_names("fd00::2") == ["[fd00::2]"]
    assert host_names("dream.example") == ["dream.example"]
    assert not any(re.fullmatch(r"[0-9.]+", name) for name in host_names("::"))
