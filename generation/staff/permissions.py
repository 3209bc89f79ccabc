"""Who may open a page of the admin that is not a ModelAdmin's."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

View = Callable[..., HttpResponseBase]


def permission_required(permission: str) -> Callable[[View], View]:
    """For staff with this permission, others are 403, strangers sign in first; no browser stores the page."""

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        checked: View = admin.site.admin_view(guarded)
        return checked

    return guard
