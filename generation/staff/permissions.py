"""Permissions of staff: the guard of admin pages that do not belong to a ModelAdmin, and those of operators."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django_htmx.http import HttpResponseClientRefresh

View = Callable[..., HttpResponseBase]

OPERATE = "generation.operate"


def permission_required(permission: str) -> Callable[[View], View]:
    """Decorate a view for staff with this permission: other staff get 403, everybody else the sign-in page.

    Responses are never cached.
    """

    def decorator(view: View) -> View:
        def check(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        checked: View = admin.site.admin_view(check)

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if "HX-Request" in request.headers and not admin.site.has_permission(request):
                # A part of a page cannot show the sign-in page: the whole page reloads and is redirected to it.
                return HttpResponseClientRefresh()
            return checked(request, *args, **kwargs)

        return guarded

    return decorator


operators_only = permission_required(OPERATE)
reviewers_only = permission_required("generation.review_generation")


def can_operate(request: HttpRequest) -> bool:
    """Return whether the user has the permission to operate the service."""
    return bool(request.user.has_perm(OPERATE))


class OperatorsOnlyMixin:
    """A ModelAdmin for operators only: they may see, add, change and delete its rows."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can_operate(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_operate(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return can_operate(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_operate(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_operate(request)
