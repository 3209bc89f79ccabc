"""URLs and addresses that are never fetched from, checked without any network."""

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.images.remote import (
    MAX_URL_LENGTH,
    RemoteRefused,
    check,
    is_public,
)
from tests.support.remotes import refusal

# What is written


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "https://example.org/a/picture.png?width=512&sign=%2F+=#part",
        "HTTPS://Example.ORG:443/",
        "http://example.org:80/",
        "http://example.org:/",
        "http://example.org.:8080/",
        "https://images_1.xn--bcher-kva.example:65535/",
        "http://8.8.8.8/",
        "http://[2606:4700:4700::1111]:8443/x",
        "http://2.example.org/",
        f"http://{'a' * 63}.org/",
    ],
)
def test_an_ordinary_url_is_allowed(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "printable"),
        ("http://example.org/" + "a" * MAX_URL_LENGTH, "4000"),
        ("http://example.org/a b", "without spaces"),
        (" http://example.org/", "without spaces"),
        ("http://example.org/\n", "printable"),
        ("http://example.org/\r\nHost:%20localhost", "printable"),
        ("ht\ttp://example.org/", "printable"),
        ("http://example.org/\x00", "printable"),
        ("http://bücher.example/", "xn--"),
        # Full-width digits, which normalise to 127.0.0.1.
        ("http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "printable"),
        ("http://127\u30020\u30020\u30021/", "printable"),
        ("file:///etc/passwd", "http:// or https://"),
        ("ftp://example.org/a.png", "http:// or https://"),
        ("gopher://example.org:6379/_FLUSHALL", "http:// or https://"),
        ("data:image/png;base64,AAAA", "http:// or https://"),
        ("//example.org/a.png", "http:// or https://"),
        ("example.org/a.png", "http:// or https://"),
        ("http:/example.org/", "valid host"),
        ("http:example.org", "valid host"),
        ("http://", "valid host"),
        ("http:///etc/passwd", "valid host"),
        ("http://:80/", "valid host"),
        ("http://user@example.org/", "user name"),
        ("http://user:secret@example.org/", "user name"),
        ("http://@example.org/", "user name"),
        ("http://example.org\\@127.0.0.1/", "user name"),
        ("http://127.0.0.1\\.example.org/", "valid host"),
        ("http://%31%32%37.0.0.1/", "valid host"),
        ("http://exa%6dple.org/", "valid host"),
        ("http://a..example.org/", "full name"),
        ("http://.example.org/", "full name"),
        ("http://example.org../", "full name"),
        (f"http://{'a' * 64}.org/", "full name"),
        (f"http://{'a.' * 130}org/", "valid host"),
        ("http://localhost/", "full name"),
        ("http://redis:6379/", "full name"),
        ("http://[::1/", "valid host"),
        ("http://::1]/", "valid host"),
        ("http://[::1]example.org/", "valid host"),
        ("http://[fe80::1%25eth0]/", "valid host"),
        ("http://[v1.a]/", "valid host"),
        ("http://[1:2]/", "valid host"),
        ("http://example.org:22/", "port"),
        ("http://example.org:0/", "port"),
        ("http://example.org:1023/", "port"),
        ("http://example.org:65536/", "port"),
        ("http://example.org:99999999/", "valid host"),
        ("http://example.org:-80/", "valid host"),
        ("http://example.org:8_0/", "valid host"),
        ("http://127.0.0.1/", "public internet"),
        ("http://127.0.0.1./", "public internet"),
        ("http://10.0.0.1:8080/", "public internet"),
        ("http://169.254.169.254/latest/meta-data/", "public internet"),
        ("http://0.0.0.0/", "public internet"),
        ("http://[::1]/", "public internet"),
        ("http://[::]/", "public internet"),
        ("http://[::ffff:127.0.0.1]/", "public internet"),
        ("http://[::ffff:8.8.8.8]/", "public internet"),
        ("http://[64:ff9b::7f00:1]/", "public internet"),
        ("http://[2002:7f00:1::]/", "public internet"),
        ("http://[fd00:ec2::254]/", "public internet"),
        ("http://2130706433/", "number"),
        ("http://0x7f000001/", "number"),
        ("http://0x7f.1/", "number"),
        ("http://0X7F.0.0.1/", "number"),
        ("http://017700000001/", "number"),
        ("http://0177.0.0.1/", "number"),
        ("http://127.1/", "number"),
        ("http://127.0.1/", "number"),
        ("http://127.0.0.01/", "number"),
        ("http://127.0.0.1.1/", "number"),
        ("http://256.256.256.256/", "number"),
        ("http://example.0x/", "number"),
    ],
)
def test_a_malicious_or_wrong_url_is_refused_by_its_text(url: str, reason: str) -> None:
    with pytest.raises(RemoteRefused) as refused:
        check(url)
    assert reason in refused.value.message
    assert refusal(url, allow=is_public) == refused.value.message


HOSTS = st.one_of(
    st.text("0123456789abcdefxX.", max_size=20),
    st.ip_addresses(v=4).map(lambda address: str(int(address))),
    st.ip_addresses(v=4).map(lambda address: hex(int(address))),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.text("0123456789abcdef:.%[]", max_size=24).map(lambda inside: f"[{inside}]"),
)


@given(host=HOSTS, rest=st.sampled_from(["", "/", ":80/", "?", "\\", "#@127.0.0.1/"]))
def test_no_host_is_allowed_that_the_system_reads_as_an_internal_address(host: str, rest: str) -> None:
    try:
        check(f"http://{host}{rest}")
    except RemoteRefused:
        return
    with suppress(socket.gaierror):
        entries = socket.getaddrinfo(host.strip("[]"), 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        assert all(is_public(ip_address(entry[4][0])) for entry in entries)


@given(st.one_of(st.text(), st.text().map("http://".__add__), st.text("ht:/[]@\\?#%.0x1a ").map("http://".__add__)))
def test_a_url_is_allowed_or_refused_and_nothing_else(url: str) -> None:
    with suppress(RemoteRefused):
        check(url)


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
        *("192.167.1.1", "223.255.255.255", "168.63.129.15"),
        *("2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888"),
    ],
)
def test_an_ordinary_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


WITHIN = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
    *("2001::/23", "2001::/32", "2001:10::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7"),
    *("fe80::/10", "fec0::/10", "ff00::/8", "ff0e::/16"),
)


@given(st.sampled_from(WITHIN).flatmap(lambda block: st.ip_addresses(network=ip_network(block))))
def test_no_address_of_a_special_block_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::", "64:ff9b:1::"]))
def test_no_address_that_embeds_another_is_public(inner: IPv4Address, prefix: str) -> None:
    assert not is_public(IPv6Address(int(IPv6Address(prefix)) | int(inner)))
    assert not is_public(IPv6Address(0x2002 << 112 | int(inner) << 80 | 1))
    # Teredo addresses contain the client's address with all bits inverted.
    assert not is_public(IPv6Address(0x20010000 << 96 | int(inner) ^ 0xFFFFFFFF))


def test_an_address_with_a_zone_is_not_public() -> None:
    assert not is_public(ip_address("2606:4700::1111%eth0"))
