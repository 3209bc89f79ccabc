"""`Idempotency-Key`: a request that is sent again makes nothing new.

After the IETF draft of the header (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/). Only
accepted requests are remembered: a refused one may be sent again with the same key.
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
_PURGE_BATCH = 1000
_KEY = re.compile(r"(?!\"\Z)[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")


class KeyReused(InvalidField):
    """The key was used with another request."""

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key",
            "This key was used with another request; repeat that request, or use a new key",
            place="header",
            code=ErrorCode.KEY_REUSED,
        )


@dataclass(frozen=True)
class IdempotentRequest:
    """A request with a key, which belongs to a token, or to a user without one, and a digest of its content."""

    user: User
    token: ApiToken | None
    key: str
    fingerprint: str

    def earlier(self) -> Generation | None:
        """Return the generation that the same request made before, if any. Raises `KeyReused`."""
        row = _remembered(self._rows()).select_related("generation").first()
        if row is None:
            return None
        if row.fingerprint != self.fingerprint:
            raise KeyReused
        return row.generation

    def remember(self, generation: Generation) -> None:
        """Save the key. Call it in the transaction that inserts the row, under the lock of the user's share."""
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
    """Return the key of a header, with or without the quotes of the draft; empty without a header. Raises `InvalidField`."""
    key = header.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if header.strip() and not _KEY.fullmatch(key):
        raise InvalidField(
            "Idempotency-Key", "Send 1 to 255 printable ASCII characters, such as a UUID", place="header"
        )
    return key


def fingerprint(path: str, parameters: ImageToImageParameters, pictures: str) -> str:
    """Return a digest of a request: SHA-256, hexadecimal."""
    content = [path.rstrip("/"), parameters.model_dump(mode="json"), pictures]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_known(token: ApiToken, key: str) -> bool:
    """Return whether this key of this token is remembered, with any request."""
    return _remembered(IdempotencyKey.objects.filter(token=token, key=key)).exists()


def first_answer(generation: Generation, body: dict[str, Any]) -> dict[str, Any]:
    """Return the first body that this generation was answered with, while its URLs are valid; else `body`, and store it."""
    if timezone.now() > (generation.finished or generation.created) + timedelta(seconds=settings.URL_EXPIRY_SECONDS):
        return body
    rows = IdempotencyKey.objects.filter(generation=generation)
    row = rows.first()
    # Read first: most requests have no key, and a reader never waits for a writer.
    if row is not None and not row.answer and not rows.filter(answer="").update(answer=json.dumps(body)):
        row = rows.first()
    return json.loads(row.answer) if row is not None and row.answer else body


def purge() -> None:
    """Delete up to `_PURGE_BATCH` keys that are older than `RETENTION`."""
    expired = IdempotencyKey.objects.filter(created__lt=timezone.now() - RETENTION).order_by("created")
    # An empty deletion, too, would wait for other writers.
    if ids := list(expired.values_list("pk", flat=True)[:_PURGE_BATCH]):
        IdempotencyKey.objects.filter(pk__in=ids).delete()


def _remembered(rows: QuerySet[IdempotencyKey]) -> QuerySet[IdempotencyKey]:
    """Return the keys that are remembered: not of requests that a worker refused, since it lacks the model."""
    recent = rows.filter(created__gte=timezone.now() - RETENTION)
    return recent.exclude(generation__error_code=ErrorCode.MODEL_NOT_DOWNLOADED)
