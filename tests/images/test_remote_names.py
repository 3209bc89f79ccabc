"""Names, redirects and certificates of picture servers: real servers on this machine."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from generation.images.remote import MAX_URL_LENGTH, is_public
from tests.support.remotes import (
    PICTURE,
    WAIT_SECONDS,
    accepting_no_connections,
    answer,
    drip,
    get,
    redirect,
    refusal,
    refusal_at_deadline,
    serving,
    wait_for_close,
)

NAME = "pictures.test"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replaces the system's resolver: `names(first, second)` sets the addresses of the first look-up, the second and so on.

    Returns the list to which looked-up names are appended.
    """
    getaddrinfo_of_system = socket.getaddrinfo

    def set_addresses(*lookups: list[str]) -> list[str]:
        looked_up: list[str] = []

        def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
            if re.fullmatch(r"[0-9.]+|.*:.*", host):
                return getaddrinfo_of_system(host, port, *arguments, **options)
            looked_up.append(host)
            addresses = lookups[min(len(looked_up), len(lookups)) - 1]
            if not addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [
                entry
                for address in addresses
                for entry in getaddrinfo_of_system(address, port, type=socket.SOCK_STREAM)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return looked_up

    return set_addresses


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate in one file, self-signed, for `NAME` and 127.0.0.1."""
    if shutil.which("openssl") is None and not os.environ.get("CI"):
        pytest.skip("the openssl program makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path.with_suffix(".crt"))),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine trust the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))


# Names


def test_a_name_is_looked_up_once_and_the_checked_address_is_connected(names: Callable[..., list[str]]) -> None:
    looked_up = names(["127.0.0.1"], ["127.0.0.2"])
    with (
        serving(answer(b"public")) as server,
        serving(answer(b"internal"), host="127.0.0.2", port=server.port) as internal,
    ):
        content = get(f"http://{NAME}:{server.port}/", allow=lambda address: str(address) == "127.0.0.1")
        assert content == b"public"
    assert looked_up == [NAME]
    assert internal.connections == 0
    assert f"Host: {NAME}:{server.port}\r\n" in server.requests[0]


def test_a_name_that_changes_its_address_with_a_redirect_is_refused(names: Callable[..., list[str]]) -> None:
    looked_up = names(["127.0.0.1"], ["127.0.0.2"])
    with (
        serving(redirect("/again")) as server,
        serving(answer(), host="127.0.0.2", port=server.port) as internal,
    ):
        message = refusal(f"http://{NAME}:{server.port}/", allow=lambda address: str(address) == "127.0.0.1")
    assert "cannot be reached" in message
    assert looked_up == [NAME, NAME]
    assert (server.connections, internal.connections) == (1, 0)


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
def test_a_name_with_one_internal_address_is_refused(addresses: list[str], names: Callable[..., list[str]]) -> None:
    names(addresses)
    with serving(answer()) as server:
        refusal(f"http://{NAME}:{server.port}/", allow=lambda address: str(address) == "127.0.0.1")
    assert server.connections == 0


def test_the_next_address_of_a_name_is_tried(names: Callable[..., list[str]]) -> None:
    with serving(answer()) as server:
        names(["127.0.0.2", "127.0.0.1"])
        assert get(f"http://{NAME}:{server.port}/") == PICTURE
        names(["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.1"])
        assert "cannot be reached" in refusal(f"http://{NAME}:{server.port}/")


@pytest.mark.parametrize(
    "addresses",
    [
        *(["10.1.2.3"], ["8.8.8.8", "10.1.2.3"], ["127.0.0.1"], ["169.254.169.254"], ["100.100.100.200"], ["0.0.0.1"]),
        *(["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::a01:203"], ["2002:a01:203::1"], ["fe80::1%1"], ["fd00::1"]),
    ],
)
def test_a_name_with_an_internal_address_is_refused_like_one_without_addresses(
    addresses: list[str], names: Callable[..., list[str]]
) -> None:
    names([])
    unknown = refusal(f"http://{NAME}/", allow=is_public)
    looked_up = names(addresses)
    assert refusal(f"http://{NAME}/", allow=is_public) == unknown
    assert looked_up == [NAME]


def test_a_closed_port_is_refused_like_an_unknown_name(names: Callable[..., list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    message = refusal(f"http://127.0.0.1:{port}/")
    names([])
    assert refusal(f"http://{NAME}/") == message


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "017700000001", "127.1", "localhost"])
def test_no_spelling_of_the_local_address_is_connected(host: str) -> None:
    with serving(answer()) as server:
        refusal(f"http://{host}:{server.port}/")
    assert server.connections == 0


def test_an_address_that_accepts_no_connections_leaves_time_for_the_next(names: Callable[..., list[str]]) -> None:
    names(["127.0.0.2", "127.0.0.1"])
    with serving(answer()) as server, accepting_no_connections("127.0.0.2", server.port):
        assert get(f"http://{NAME}:{server.port}/", seconds=6) == PICTURE


# Redirects


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
def test_a_redirect_is_followed_without_cookies_on_a_connection_of_its_own(status: str) -> None:
    # What follows the redirect looks like the response to the next request.
    forged = answer(b"", status, "Location: ../b?c=d", "Set-Cookie: a=b", "Connection: keep-alive") + answer(b"forged")
    with serving(forged, answer()) as server:
        assert get(server.url) == PICTURE
    assert server.connections == 2
    assert server.requests[1].startswith("GET /b?c=d HTTP/1.1\r\n")
    assert "cookie" not in server.requests[1].lower()


def test_three_redirects_are_followed_and_no_fourth() -> None:
    with serving(*[redirect("/again")] * 3, answer()) as server:
        assert get(server.url) == PICTURE
    assert server.connections == 4
    with serving(redirect("/again")) as loop:
        assert "more than 3 times" in refusal(loop.url)
    assert loop.connections == 4


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://10.0.0.1/", "public internet"),
        ("http://169.254.169.254/latest/meta-data/", "public internet"),
        ("//127.0.0.2/", "public internet"),
        ("http://[::ffff:127.0.0.1]/", "public internet"),
        ("http://0x7f.2/", "number"),
        ("http://localhost/", "full name"),
        ("file:///etc/passwd", "http:// or https://"),
        ("ftp://example.org/", "http:// or https://"),
        ("gopher://example.org/", "http:// or https://"),
        ("javascript:alert(1)", "http:// or https://"),
        ("http://user:secret@example.org/", "user name"),
        ("http://example.org:25/", "port"),
        ("http://[::1", "nowhere"),
        ("", "nowhere"),
        ("/a b", "nowhere"),
        ("ht\ttp://10.0.0.1/", "nowhere"),
        ("/zürich.png", "nowhere"),
        ("/a\r\nLocation: /b", "nowhere"),
        ("/" + "a" * MAX_URL_LENGTH, "nowhere"),
    ],
)
def test_a_redirect_is_checked_like_the_url(location: str, reason: str) -> None:
    with serving(redirect(location)) as server:
        assert reason in refusal(server.url, allow=lambda address: str(address) == "127.0.0.1")
    assert server.connections == 1


def test_a_redirect_to_an_internal_name_is_refused(names: Callable[..., list[str]]) -> None:
    names(["10.1.2.3"])
    with serving(redirect(f"http://{NAME}/")) as server:
        assert "cannot be reached" in refusal(server.url, allow=lambda address: str(address) == "127.0.0.1")


# TLS


@pytest.mark.usefixtures("trusted")
def test_a_trusted_server_gets_its_name(tls: ssl.SSLContext, names: Callable[..., list[str]]) -> None:
    server_names: list[str | None] = []
    tls.sni_callback = lambda _, name, __: server_names.append(name)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    names(["127.0.0.1"])
    with serving(answer(), tls=tls) as server:
        assert get(f"https://{NAME}:{server.port}/") == PICTURE
        assert get(server.url) == PICTURE
    assert server_names == [NAME, None]
    assert f"Host: {NAME}:{server.port}\r\n" in server.requests[0]


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_name_is_refused(tls: ssl.SSLContext, names: Callable[..., list[str]]) -> None:
    names(["127.0.0.1"])
    with serving(answer(), tls=tls) as server:
        assert "certificate" in refusal(f"https://other.test:{server.port}/")
    assert server.requests == []


def test_an_untrusted_certificate_is_refused(tls: ssl.SSLContext) -> None:
    with serving(answer(), tls=tls) as server:
        assert "certificate" in refusal(server.url)
    assert server.requests == []


def test_a_server_without_tls_is_refused() -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"220 ready\r\n")
            wait_for_close(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        assert "certificate" in refusal(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


@pytest.mark.usefixtures("trusted")
def test_a_redirect_may_lead_to_https_but_not_back(tls: ssl.SSLContext) -> None:
    with (
        serving(answer()) as plain,
        serving(redirect(plain.url), tls=tls) as secure,
        serving(answer(), tls=tls) as other,
    ):
        assert "from https to http" in refusal(secure.url)
        assert plain.connections == 0
        with serving(redirect(other.url)) as upward:
            assert get(upward.url) == PICTURE


@pytest.mark.usefixtures("trusted")
def test_a_slow_server_with_tls_is_given_up_at_the_deadline(tls: ssl.SSLContext) -> None:
    with serving(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"), tls=tls) as server:
        assert "in time" in refusal_at_deadline(server.url)
