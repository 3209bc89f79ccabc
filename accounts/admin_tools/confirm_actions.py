"""Admin actions that are confirmed on a page of their own before they change anything."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from accounts.audit_middleware import changes_nothing
from accounts.refusals import StaffRefusal

MAX_ROWS = 200
"""Maximum number of rows that one action changes."""

_Row = TypeVar("_Row", bound=Model)
_FROM_PAGE = "from_page"  # set by forms on a row's own page, so that the action leads back there


@dataclass(frozen=True)
class Action(Generic[_Row]):
    """An admin action to confirm.

    `apply` changes one row and returns what it did, or raises `StaffRefusal`. With `done`, such as "canceled", rows are
    counted in one message ("3 canceled."); without it, each text is a message of its own. `context` is for the
    confirmation page.
    """

    name: str
    title: str
    description: str
    apply: Callable[[_Row], str]
    done: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


def run(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[_Row], action: Action[_Row]
) -> HttpResponseBase | None:
    """Show the confirmation page, or once confirmed apply the action to each row and report the results.

    Returns None to go back to the list.
    """
    rows = list(queryset[: MAX_ROWS + 1])
    if len(rows) > MAX_ROWS:
        messages.error(request, f"An action takes at most {MAX_ROWS} rows; select fewer, or filter the list.")
        return None
    if "confirmed" not in request.POST:
        changes_nothing(request)
        return _confirmation_page(model_admin, request, rows, action)
    _apply(request, rows, action)
    return _redirect_back(request, rows)


def _apply(request: HttpRequest, rows: Sequence[_Row], action: Action[_Row]) -> None:
    results: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for row in rows:
        try:
            results[action.apply(row)] += 1
        except StaffRefusal as refusal:
            refusals[refusal.message] += 1
    if action.done:
        if results:
            messages.success(request, f"{results.total()} {action.done}.")
        for reason, count in refusals.items():
            messages.warning(request, f"{count} not {action.done}: {reason.rstrip('.')}.")
    else:
        for text in results:
            messages.success(request, text)
        for text in refusals:
            messages.error(request, text)


def _confirmation_page(
    model_admin: Any, request: HttpRequest, rows: Sequence[_Row], action: Action[_Row]
) -> TemplateResponse:
    """Say what the action would do to these rows; the template is the confirm.html of the admin's model."""
    opts = model_admin.model._meta
    context = {
        **model_admin.admin_site.each_context(request),
        "title": action.title,
        "opts": opts,
        "description": action.description,
        "action": action.name,
        "rows": rows,
        "checkbox": ACTION_CHECKBOX_NAME,
        "from_page": _is_from_page(request, rows),
        **action.context,
    }
    return TemplateResponse(request, f"admin/{opts.app_label}/{opts.model_name}/confirm.html", context)


def _redirect_back(request: HttpRequest, rows: Sequence[Model]) -> HttpResponseRedirect | None:
    """Redirect to the page of the row that the action came from; None leads to the list."""
    if not _is_from_page(request, rows):
        return None
    opts = rows[0]._meta
    return redirect(f"admin:{opts.app_label}_{opts.model_name}_change", rows[0].pk)


def _is_from_page(request: HttpRequest, rows: Sequence[Model]) -> bool:
    return _FROM_PAGE in request.POST and len(rows) == 1
