"""The headers of pages: every HTML answer has a policy, those of pictures name the bucket, no other answer changes."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.storage import storages
from django.test import Client

from accounts.models import User
from generation.pages import security_headers


@pytest.fixture
def bucket(settings: Any) -> Iterator[None]:
    """Settings of an S3 service that browsers reach by a name of its own."""
    settings.S3_BUCKET = "pictures"
    options = {
        **{"bucket_name": "pictures", "endpoint_url": "http://minio:9000", "region_name": "us-east-1"},
        **{"access_key": "key", "secret_key": "secret", "addressing_style": "path"},
        "public_endpoint_url": "https://s3.example.org:8443",
    }
    default = {"BACKEND": "generation.images.s3.SharedS3Storage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    assert storages["default"]
    security_headers._bucket_origin.cache_clear()
    yield
    security_headers._bucket_origin.cache_clear()


def directives(answer: Any) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in answer["Content-Security-Policy"].split(";")]
    return {name: sources for name, _, sources in parts}


@pytest.mark.parametrize(
    "address", ["/accounts/sign-in", "/admin/login/", "/docs", "/s/unknown", "/deleted/unknown", "/nothing"]
)
def test_every_page_has_a_policy(client: Client, db: None, address: str) -> None:
    answer = client.get(address, headers={"accept": "text/html"})
    assert answer["Content-Type"].startswith("text/html")
    policy = directives(answer)
    assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert (policy["img-src"], policy["connect-src"]) == ("'self' data: blob:", "'self'")
    assert "camera=()" in answer["Permissions-Policy"]
    assert b"http-equiv" not in answer.content


def test_refusals_before_any_view_have_it(alice: User) -> None:
    refused = Client(enforce_csrf_checks=True).post("/accounts/sign-in", headers={"accept": "text/html"})
    unknown = Client().get("/", headers={"host": "unknown.example", "accept": "text/html"})
    assert [answer.status_code for answer in (refused, unknown)] == [403, 400]
    assert all("frame-ancestors 'none'" in answer["Content-Security-Policy"] for answer in (refused, unknown))


def test_the_pages_of_staff_have_it(client: Client, charlie: User, redis: None) -> None:
    client.force_login(charlie)
    for address in ("/admin/", "/admin/accounts/user/", "/admin/operations/", "/admin/review/"):
        assert directives(client.get(address))["script-src"] == "'self'"


def test_other_answers_have_none(client: Client, db: None) -> None:
    for address in ("/openapi.json", "/models", "/ready"):
        assert "Content-Security-Policy" not in client.get(address)


def test_the_studio_reads_dropped_pictures_of_other_sites(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert directives(client.get("/"))["connect-src"] == "'self' http: https: data:"
    assert directives(client.get("/history/"))["connect-src"] == "'self'"


def test_pictures_may_come_from_the_bucket_alone(client: Client, db: None, bucket: None) -> None:
    assert directives(client.get("/accounts/sign-in"))["img-src"] == "'self' data: blob: https://s3.example.org:8443"


def test_only_the_export_has_a_form_that_leads_to_the_bucket(client: Client, alice: User, bucket: None) -> None:
    client.force_login(alice)
    assert directives(client.get("/settings/export"))["form-action"] == "'self' https://s3.example.org:8443"
    assert directives(client.get("/settings/"))["form-action"] == "'self'"


def test_without_a_bucket_no_form_leads_elsewhere(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert directives(client.get("/settings/export"))["form-action"] == "'self'"
