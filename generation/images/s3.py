"""Files in an S3 bucket: private objects behind presigned URLs."""

from types import SimpleNamespace
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from storages.backends.s3 import S3Storage


class SharedS3Storage(S3Storage):
    """`S3Storage` with one connection for the whole process.

    The original makes one in every thread, which takes a fifth of a second, and every request has a thread of its own. What
    threads share here are boto3's client, which is made for it, and the bucket, which the original shares too.
    """

    def __init__(self, *, addressing_style: str, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client_config=_client_config(addressing_style),
            # A picture is sent in one piece: threads for its parts would only be started and ended.
            transfer_config=TransferConfig(use_threads=False),
            **options,
        )
        self._connections = SimpleNamespace()  # type: ignore[assignment]  # the original's is a `threading.local`


def _client_config(addressing_style: str) -> Config:
    return Config(
        # The only version whose presigned URLs every region and server takes.
        signature_version="s3v4",
        s3={"addressing_style": addressing_style},
        # Checksums that are only supported, not required, are unknown to some servers that are not Amazon's.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=20,
        connect_timeout=3,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
