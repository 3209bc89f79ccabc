"""The admin site: the tabs of every page, and the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from generation.moderation import review_queue
from generation.staff.overview import overview
from generation.staff.viewing import record_page_view

_MAX_COUNT = 99

_TABS = (
    ("Review", "generation.review_generation", ("review", "admin:generation_reviewdecision_changelist")),
    ("Generations", "generation.view_generation", ("admin:generation_generation_changelist",)),
    ("Operations", "generation.operate", ("operations", "admin:generation_retentionrule_changelist")),
    (
        "Users",
        "accounts.view_user",
        ("admin:accounts_user_changelist", "admin:accounts_apitoken_changelist", "admin:auth_group_changelist"),
    ),
    (
        "Models",
        "generation.view_diffusionmodel",
        (
            "admin:generation_diffusionmodel_changelist",
            "admin:generation_lora_changelist",
            "admin:generation_modelalias_changelist",
        ),
    ),
    ("Audit", "accounts.view_auditentry", ("admin:accounts_auditentry_changelist",)),
)
"""Labels, permissions and the names of the pages: the tab's own, then those of further tables."""


@dataclass(frozen=True)
class Tab:
    """A tab of the admin's head. `current` is the value of aria-current, "" on other pages; `count` is "" for none."""

    label: str
    address: str
    current: str
    count: str = ""


class StaffSite(AdminSite):
    index_title = "Overview"
    # The lists need the width; tabs and breadcrumbs lead to the other tables.
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {
            **super().each_context(request),
            "site_header": settings.SITE_NAME,
            "site_title": settings.SITE_NAME,
            "version": settings.VERSION,
            "tabs": tabs(request) if self.has_permission(request) else [],
        }

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # type: ignore[override]
        # The site's own page bounds guesses of the old password.
        return redirect("password_change")

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        shown = overview(request)
        record_page_view(request, "overview", [image.generation for image in shown.pictures])
        response: TemplateResponse = super().index(request, {"overview": shown, **(extra_context or {})})
        return response


def tabs(request: HttpRequest) -> list[Tab]:
    """Return the tabs that the user's permissions allow."""
    return [
        Tab(label, reverse(names[0]), _current(request, names), _count() if label == "Review" else "")
        for label, permission, names in _TABS
        if request.user.has_perm(permission)
    ]


def _current(request: HttpRequest, names: Sequence[str]) -> str:
    """Return "page" on the tab's own page, "true" on its further pages and on those below them."""
    addresses = [reverse(name) for name in names]
    if request.path == addresses[0]:
        return "page"
    return "true" if any(request.path.startswith(address) for address in addresses) else ""


def _count() -> str:
    """Count the pictures that wait for review, up to a number that is as good as many."""
    count = review_queue.waiting_count(_MAX_COUNT + 1)
    return f"{_MAX_COUNT}+" if count > _MAX_COUNT else str(count or "")
