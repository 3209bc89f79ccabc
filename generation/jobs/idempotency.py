"""`Idempotency-Key`: a request that is sent again is not made again.

After the IETF draft of the header (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/). Only what
was accepted is remembered: who was turned away may come again with the same key.
"""

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.models import Generation, IdempotencyKey
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField

RETENTION = timedelta(hours=24)
_PURGED_AT_ONCE = 1000
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")


class KeyReused(InvalidField):
    """The key came before with another request."""

    code = ErrorCode.KEY_REUSED

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key",
            "This key came before, with another request; send the same request again, or this one with a new key",
            place="header",
        )


@dataclass(frozen=True)
class IdempotentRequest:
    """A request that names itself: a key of one token, or of a user without any, and a digest of all that it asks for."""

    user: User
    token: ApiToken | None
    key: str
    fingerprint: str

    def earlier(self) -> Generation | None:
        """What the same request made before. Raises `KeyReused`."""
        row = _living(self._rows()).select_related("generation").first()
        if row is None:
            return None
        if row.fingerprint != self.fingerprint:
            raise KeyReused
        return row.generation

    def remember(self, generation: Generation) -> None:
        """Must be called in the transaction that makes the row, under the lock of the user's share."""
        self._rows().delete()
        IdempotencyKey.objects.create(
            token=self.token,
            user=None if self.token else self.user,
            key=self.key,
            fingerprint=self.fingerprint,
            generation=generation,
        )

    def _rows(self) -> QuerySet[IdempotencyKey]:
        rows = IdempotencyKey.objects.filter(key=self.key, token=self.token)
        return rows if self.token else rows.filter(user=self.user)


def read(header: str) -> str:
    """The key of a header, with or without the quotes of the draft; empty when there is none. Raises `InvalidField`."""
    key = header.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if header.strip() and not _KEY.fullmatch(key):
        raise InvalidField(
            "Idempotency-Key", "Send 1 to 255 printable ASCII characters, such as a UUID", place="header"
        )
    return key


def fingerprint(path: str, parameters: ImageToImageParameters, picture_sha256: str) -> str:
    """A digest of a request as it was understood: SHA-256, hexadecimal."""
    understood = [path.rstrip("/"), parameters.model_dump(mode="json"), picture_sha256]
    return sha256(json.dumps(understood, sort_keys=True).encode()).hexdigest()


def is_known(token: ApiToken, key: str) -> bool:
    """Whether this key of this token is remembered, with whatever request."""
    return _living(IdempotencyKey.objects.filter(token=token, key=key)).exists()


def settled(generation: Generation, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to whoever sends the request of this generation again: the first one, for as long as its URLs are valid."""
    if timezone.now() > (generation.finished or generation.created) + timedelta(seconds=settings.URL_EXPIRY_SECONDS):
        return body
    rows = IdempotencyKey.objects.filter(generation=generation)
    row = rows.first()
    # Most requests come without a key, and an answer that only reads is never held up by a writer.
    if row is not None and not row.answer and not rows.filter(answer="").update(answer=json.dumps(body)):
        row = rows.first()
    return json.loads(row.answer) if row is not None and row.answer else body


def purge() -> None:
    """Forget the keys that are older than they are kept, a bounded number at a time."""
    old = IdempotencyKey.objects.filter(created__lt=timezone.now() - RETENTION).order_by("created")
    IdempotencyKey.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_PURGED_AT_ONCE])).delete()


def _living(rows: QuerySet[IdempotencyKey]) -> QuerySet[IdempotencyKey]:
    return rows.filter(created__gte=timezone.now() - RETENTION)
