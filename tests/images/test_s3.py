"""Addresses of pictures in a bucket, which are signed without a connection."""

import pytest

from generation.images.s3 import SharedS3Storage


@pytest.mark.parametrize(
    ("style", "address"),
    [("path", "https://s3.example.org/pictures/a.png?"), ("virtual", "https://pictures.s3.example.org/a.png?")],
)
def test_both_styles_of_addresses_are_signed_for_the_public_host(style: str, address: str) -> None:
    storage = SharedS3Storage(
        endpoint_url="http://minio:9000",
        public_endpoint_url="https://s3.example.org",
        addressing_style=style,
        bucket_name="pictures",
        access_key="key",
        secret_key="secret",
        region_name="us-east-1",
        querystring_expire=60,
    )
    url = storage.url("a.png", parameters={"ResponseContentType": "image/png"}, expire=30)
    assert url.startswith(address)
    assert "X-Amz-SignedHeaders=host&" in url
    assert "X-Amz-Expires=30&" in url
    assert "response-content-type=image%2Fpng" in url
    assert storage.connection.meta.client.meta.endpoint_url == "http://minio:9000"
