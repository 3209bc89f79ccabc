"""Retention rules in the admin, for operators."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.admin_tools.audited import AuditedAdminMixin
from generation.models import RetentionRule


@admin.register(RetentionRule)
class RetentionRuleAdmin(AuditedAdminMixin, admin.ModelAdmin[RetentionRule]):
    """Retention rules to add and change; the retention page of operations previews and runs them."""

    list_display = ("__str__", "what", "state", "days", "enabled")
    fields = ("what", "state", "days", "enabled")

    def save_model(self, request: HttpRequest, obj: RetentionRule, form: Any, change: bool) -> None:
        # With another age or state, generations that were skipped may be due now: start again with the oldest.
        obj.last_id, obj.is_finished, obj.started, obj.deleted_count = None, True, None, 0
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
