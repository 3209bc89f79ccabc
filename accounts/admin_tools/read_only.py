"""Admin pages of rows that only the service writes."""

from typing import Any

from django.http import HttpRequest


class ReadOnlyAdminMixin:
    """A ModelAdmin or inline without adding, changing and deleting."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
