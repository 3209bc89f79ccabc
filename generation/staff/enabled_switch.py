"""Switches in the lists of models and LoRAs: whether requests can use each of them."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from accounts import audit


class EnabledSwitchMixin:
    """A ModelAdmin whose column `enabled` has switches for those who may change its rows.

    They are buttons of the list's own form, which has the CSRF token, so they need no script.
    """

    admin_site: admin.AdminSite
    model: Any
    opts: Any

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.set_enabled))
        name = f"generation_{self.opts.model_name}_enabled"
        return [path("<path:object_id>/enabled/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = super().get_list_display(request)  # type: ignore[misc]
        if not self.has_change_permission(request):  # type: ignore[attr-defined]
            return list(columns)
        query = request.GET.urlencode()

        @admin.display(description="enabled", ordering="enabled")
        def switch(row: Any) -> SafeString:
            address = reverse(f"admin:generation_{self.opts.model_name}_enabled", args=[quote(row.pk)])
            is_default = getattr(row, "is_default", False)
            return format_html(
                '<button class="switch" role="switch" aria-checked="{}" aria-label="{}" formaction="{}{}" name="enabled" '
                'value="{}"{}></button>{}',
                "true" if row.enabled else "false",
                row.pk,
                address,
                f"?{query}" if query else "",
                "off" if row.enabled else "on",
                SafeString(
                    ' disabled title="The default model must be enabled."' if is_default and row.enabled else ""
                ),
                SafeString(' <span class="tag">default</span>' if is_default else ""),
            )

        return [switch if column == "enabled" else column for column in columns]

    def set_enabled(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Enable a row if `enabled` is `on`, else disable it, and go back to the list with the query of the request.

        What cannot be enabled or disabled stays as it is, and its own page is shown with the reason.
        """
        if not self.has_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        with transaction.atomic():
            row = get_object_or_404(self.model.objects.select_for_update(), pk=unquote(object_id))
            before, row.enabled = row.enabled, request.POST.get("enabled") == "on"
            try:
                row.clean()
            except ValidationError as refusal:
                messages.error(request, f"Not changed: {' '.join(refusal.messages)}")
                return redirect(f"admin:generation_{self.opts.model_name}_change", quote(row.pk))
            if row.enabled != before:
                row.save(update_fields=["enabled"])
                verb = f"{self.opts.model_name}.{'enable' if row.enabled else 'disable'}"
                audit.record(request.user, verb, row, {"enabled": before}, {"enabled": row.enabled})
                self.log_change(request, row, "Enabled." if row.enabled else "Disabled.")  # type: ignore[attr-defined]
        if row.enabled != before:
            messages.success(request, f"{'Enabled' if row.enabled else 'Disabled'} {row}.")
            self.after_enabling(request, row)
        query = request.META["QUERY_STRING"]
        return redirect(reverse(f"admin:generation_{self.opts.model_name}_changelist") + (f"?{query}" if query else ""))

    def after_enabling(self, request: HttpRequest, row: Any) -> None:
        """Do what follows when a row was enabled or disabled."""
