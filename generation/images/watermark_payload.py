"""What a watermark says, and the keys of which that is derived. Imports no numpy, since the web process has no need of it."""

import hmac
from typing import NamedTuple, Self

PICTURE_BITS = 48

_SITE_BYTES = 2


class Payload(NamedTuple):
    """What a watermark says: 16 bits of the site, and `PICTURE_BITS` of the picture."""

    site: int
    picture: int

    @classmethod
    def of(cls, key: bytes, recipe_digest: str) -> Self:
        """Return the payload for the picture that a recipe of this digest makes: the same recipe is marked the same."""
        digest = _derived(key, b"picture " + recipe_digest.encode())
        return cls(site_of(key), int.from_bytes(digest[: PICTURE_BITS // 8], "big"))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        return cls(int.from_bytes(content[:_SITE_BYTES], "big"), int.from_bytes(content[_SITE_BYTES:], "big"))

    def to_bytes(self) -> bytes:
        return self.site.to_bytes(_SITE_BYTES, "big") + self.picture.to_bytes(PICTURE_BITS // 8, "big")


def site_of(key: bytes) -> int:
    """Return the 16 bits of the site that has this key."""
    return int.from_bytes(_derived(key, b"site")[:_SITE_BYTES], "big")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"watermark " + purpose, "sha256")
