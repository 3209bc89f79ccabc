"""Actions of the admin that ask first: the page that asks, and the way back from it."""

from collections.abc import Sequence
from typing import Any, TypeVar

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse

MAX_AT_ONCE = 200
"""How many rows one action changes."""

_Row = TypeVar("_Row", bound=Model)
_FROM_PAGE = "from_page"  # in a form that comes from the page of one row, and goes back there


def selected_ids(request: HttpRequest, rows: QuerySet[_Row]) -> list[_Row] | None:
    """The rows, or None where they are too many, which the person is told."""
    few = list(rows[: MAX_AT_ONCE + 1])
    if len(few) <= MAX_AT_ONCE:
        return few
    messages.error(request, f"{MAX_AT_ONCE} at once are the most; select fewer, or narrow the list by filters.")
    return None


def is_confirmed(request: HttpRequest) -> bool:
    """Whether the page that asks was answered with yes."""
    return "confirmed" in request.POST


def render(
    admin: Any, request: HttpRequest, rows: Sequence[Model], action: str, title: str, says: str, **more: Any
) -> TemplateResponse:
    """The page that says what the action would do to these rows; its template is the confirm.html of the admin's model."""
    opts = admin.model._meta
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "opts": opts,
        "says": says,
        "action": action,
        "rows": rows,
        "checkbox": ACTION_CHECKBOX_NAME,
        "from_page": _is_from_page(request, rows),
        **more,
    }
    return TemplateResponse(request, f"admin/{opts.app_label}/{opts.model_name}/confirm.html", context)


def redirect_back(request: HttpRequest, rows: Sequence[Model]) -> HttpResponseRedirect | None:
    """To the page that the action came from, if that was one row's; None leads to the list."""
    if not _is_from_page(request, rows):
        return None
    opts = rows[0]._meta
    return redirect(f"admin:{opts.app_label}_{opts.model_name}_change", rows[0].pk)


def _is_from_page(request: HttpRequest, rows: Sequence[Model]) -> bool:
    return _FROM_PAGE in request.POST and len(rows) == 1
