"""What pictures are made with: one row for all generations that were made with the same."""

import json
from hashlib import sha256
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def of(self, values: dict[str, Any]) -> "Environment":
        """Return the row of these values, which is created if it is the first of them."""
        environment, _ = self.get_or_create(digest=self.digest(values), defaults={"values": values})
        return environment

    @staticmethod
    def digest(values: dict[str, Any]) -> str:
        """Return the digest of these values, 64 hexadecimal digits."""
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Environment(models.Model):
    """Software, device, number type and the digests of all files that a worker made pictures with."""

    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the values.")
    values = models.JSONField()
    created = models.DateTimeField(default=timezone.now)

    objects: ClassVar[Any] = EnvironmentQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest
