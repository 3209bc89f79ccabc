"""Files in an S3 bucket: private objects behind presigned URLs."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from storages.backends.s3 import S3Storage

from generation.images.storage import StoredFile


class SharedS3Storage(S3Storage):
    """`S3Storage` with one connection for the whole process.

    The original opens a connection in each thread, which takes 0.2 s, and each request has a thread of its own. The threads
    share boto3's client, which is thread-safe, and the bucket, which the original shares as well.

    `public_endpoint_url` is the address of the same server for browsers, if it is not `endpoint_url`: a presigned URL is valid
    only for the host that was signed (Signature Version 4 signs the header Host).
    """

    bucket_name: str
    location: str

    def __init__(
        self, *, endpoint_url: str | None, public_endpoint_url: str, addressing_style: str, **options: Any
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            endpoint_url=endpoint_url,
            client_config=_client_config(addressing_style),
            # A picture is sent as one part, so threads would do nothing.
            transfer_config=TransferConfig(use_threads=False),
            **options,
        )
        self._connections = SimpleNamespace()  # type: ignore[assignment]  # the original's is a `threading.local`
        # Signing needs no connection, so this one never makes any.
        self._for_browsers = (
            SharedS3Storage(
                endpoint_url=public_endpoint_url, public_endpoint_url="", addressing_style=addressing_style, **options
            )
            if public_endpoint_url
            else None
        )

    def url(self, name: str | None, *args: Any, **options: Any) -> str:
        """Return a presigned URL for browsers."""
        if self._for_browsers is not None:
            return self._for_browsers.url(name, *args, **options)
        return str(super().url(name, *args, **options))  # type: ignore[no-untyped-call]

    def files_below(self, folder: str = "") -> Iterator[StoredFile]:
        """Iterate over all objects whose names begin with this folder. The key must have the right to list the bucket."""
        start = f"{self.location.strip('/')}/" if self.location else ""
        pages = self.connection.meta.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket_name, Prefix=f"{start}{folder}/" if folder else start
        )
        for page in pages:
            for found in page.get("Contents", []):
                yield StoredFile(found["Key"].removeprefix(start), found["Size"], found["LastModified"])


def _client_config(addressing_style: str) -> Config:
    return Config(
        # The only version whose presigned URLs all regions and servers accept.
        signature_version="s3v4",
        s3={"addressing_style": addressing_style},
        # Some servers other than Amazon's do not know the optional checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=20,
        connect_timeout=3,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
