"""The admin site: the tabs of every page, and the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from generation.moderation import review
from generation.staff.overview import overview

_MAX_COUNT = 99


@dataclass(frozen=True)
class Tab:
    """A tab of the admin's head. `current` is the value of aria-current, "" on other pages; `count` is "" for none."""

    label: str
    address: str
    current: str
    count: str = ""


class StaffSite(AdminSite):
    site_header = "Dreamsite"
    site_title = "Dreamsite"
    index_title = "Overview"
    # The lists need the width; tabs and breadcrumbs lead to the other tables.
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "tabs": tabs(request) if self.has_permission(request) else []}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        response: TemplateResponse = super().index(request, {"overview": overview(request), **(extra_context or {})})
        return response


def tabs(request: HttpRequest) -> list[Tab]:
    """Return the tabs that the user's permissions allow."""
    named = (
        ("Review", "generation.review_generation", "review", ("generation_reviewdecision",)),
        ("Generations", "generation.view_generation", "admin:generation_generation_changelist", ()),
        ("Operations", "generation.operate", "operations", ("generation_retentionrule",)),
        ("Users", "accounts.view_user", "admin:accounts_user_changelist", ("accounts_apitoken", "auth_group")),
        (
            "Models",
            "generation.view_diffusionmodel",
            "admin:generation_diffusionmodel_changelist",
            ("generation_lora", "generation_modelalias"),
        ),
        ("Audit", "accounts.view_auditentry", "admin:accounts_auditentry_changelist", ()),
    )
    return [
        Tab(label, reverse(name), _current(request, reverse(name), tables), _count() if name == "review" else "")
        for label, permission, name, tables in named
        if request.user.has_perm(permission)
    ]


def _current(request: HttpRequest, address: str, tables: Sequence[str]) -> str:
    """Return "page" on the tab's own page, "true" on those below it and on those of its further tables."""
    if request.path == address:
        return "page"
    addresses = [address, *(reverse(f"admin:{table}_changelist") for table in tables)]
    return "true" if any(request.path.startswith(each) for each in addresses) else ""


def _count() -> str:
    """Count the pictures that wait for review, up to a number that is as good as many."""
    count = review.waiting_count(_MAX_COUNT + 1)
    return f"{_MAX_COUNT}+" if count > _MAX_COUNT else str(count or "")
