"""What pictures are made with: one row for all generations that were made with the same."""

import json
from collections.abc import Mapping
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


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """Return what differs between two receipts: its name, and both values, None where there is none."""
    before, after = _flat(then), _flat(now)
    names = sorted(before.keys() | after.keys())
    return [
        {"name": name, "then": before.get(name), "now": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(receipt: Mapping[str, Any]) -> dict[str, str]:
    flat = {}
    for name, value in receipt.items():
        if isinstance(value, Mapping):
            flat.update({part: str(one) for part, one in value.items()})
        elif isinstance(value, list):
            flat[name] = ", ".join(map(str, value))
        else:
            flat[name] = str(value)
    return flat
