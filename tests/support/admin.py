"""The admin's pages of generations and models."""

import re
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry
from generation.models import Generation

LIST = "/admin/generation/generation/"
ROW = re.compile(r'<a href="/admin/generation/generation/([0-9a-f-]{36})/change/[^"]*">')


def listed(client: Client, **query: Any) -> list[UUID]:
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return [UUID(text) for text in ROW.findall(answer.content.decode())]


def change_page(generation: Generation) -> str:
    return reverse("admin:generation_generation_change", args=[generation.pk])


def model_form(**fields: Any) -> dict[str, Any]:
    return {"family": "turbo", "pool": "default", "cost_weight": "1", **fields}


def inspected(client: Client, kind: str, source: str) -> tuple[str, str]:
    """Return the page that shows what was found at a source, and the signed field with which it is saved.

    `kind` is diffusionmodel or lora.
    """
    page = client.get(reverse(f"admin:generation_{kind}_add"), {"source": source}).content.decode()
    found = re.search(r'name="inspection" value="([^"]+)"', page)
    assert found, page
    return page, found[1]


def audited_changes() -> QuerySet[AuditEntry]:
    """Return the entries of the audit log that name a change: neither views of pictures nor POSTs without one."""
    rows: QuerySet[AuditEntry] = AuditEntry.objects.exclude(action__in=("pictures.view", "admin.post"))
    return rows
