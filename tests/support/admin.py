"""The admin's pages of generations and models."""

import re
from typing import Any
from uuid import UUID

from django.test import Client
from django.urls import reverse

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
    return {"id": "someone/model", "family": "turbo", "pool": "default", "revision": "", "cost_weight": "1", **fields}
