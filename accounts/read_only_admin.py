"""Rows that the service writes, in the admin."""

from typing import Any

from django.http import HttpRequest


class ReadOnlyAdminMixin:
    """A part of the admin in which nobody makes, edits or deletes a row."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
