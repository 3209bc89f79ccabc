"""The rules of retention in the admin, for whoever may operate the service."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.audit_admin import Audited
from generation.models import RetentionRule


@admin.register(RetentionRule)
class RetentionRuleAdmin(Audited, admin.ModelAdmin[RetentionRule]):
    """Rules are made and changed here; the page of operations shows, previews and runs them."""

    list_display = ("__str__", "what", "state", "days", "enabled")
    fields = ("what", "state", "days", "enabled")

    def save_model(self, request: HttpRequest, obj: RetentionRule, form: Any, change: bool) -> None:
        # Another age or state: what was passed over may be due now.
        obj.reached, obj.is_through, obj.began, obj.removed = None, True, None, 0
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: RetentionRule, post_url_continue: str | None = None
    ) -> HttpResponse:
        super().response_add(request, obj, post_url_continue)
        return redirect("operations-retention")

    def response_change(self, request: HttpRequest, obj: RetentionRule) -> HttpResponse:
        super().response_change(request, obj)
        return redirect("operations-retention")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("generation.operate"))
