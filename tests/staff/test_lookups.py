"""Lookups in the addresses of the admin's lists."""

import pytest
from django.test import Client

from accounts.models import User
from generation.models import Generation
from tests.support.generations import make_generation

ODD = {
    "generation/generation": [
        "note__startswith=zebra",
        "title__gt=a",
        "token__isnull=0",
        "created__year=99999",
        "prompt__regex=(",
    ],
    "generation/reviewdecision": ["when__year=0", "note__startswith=a"],
    "generation/diffusionmodel": ["id__regex=("],
    "accounts/apitoken": ["digest__startswith=a", "created__year=99999"],
    "accounts/auditentry": ["target__regex=(", "when__year=99999", "when__regex=("],
    "accounts/user": ["date_joined__year=99999", "email__startswith=a"],
}


@pytest.mark.parametrize(("kind", "query"), [(kind, query) for kind, queries in ODD.items() for query in queries])
def test_unknown_lookups_are_refused(staff: Client, alice: User, kind: str, query: str) -> None:
    address = f"/admin/{kind}/"
    Generation.objects.filter(pk=make_generation(alice).pk).update(note="zebra")
    assert staff.get(f"{address}?{query}", follow=True).redirect_chain == [(f"{address}?e=1", 302)]


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("accounts/auditentry", "when__year=2026&when__month=11&action=pool.pause"),
        ("accounts/user", "is_staff__exact=1&groups__id__exact=1"),
        ("accounts/user", "groups__isnull=True"),
        ("accounts/apitoken", "usable=yes"),
        ("generation/diffusionmodel", "enabled__exact=1&family__exact=turbo"),
        ("generation/lora", "base_models__id__exact=some/model"),
        ("generation/reviewdecision", "after__exact=safe&is_sample__exact=1"),
    ],
)
def test_every_filter_is_a_valid_lookup(staff: Client, kind: str, query: str) -> None:
    assert staff.get(f"/admin/{kind}/?{query}").status_code == 200
