"""The audit log in the admin: a read-only list with filters and a CSV export."""

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.admin_tools.csv_export import csv_response
from accounts.admin_tools.read_only import ReadOnlyAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from accounts.admin_tools.text_input_filter import TextInputFilter
from accounts.models import AuditEntry

_CSV_COLUMNS = ("when", "actor_name", "action", "kind", "target", "before", "after", "request_id")

_MOST_UNFOLDED = 3
"""Up to how many values of a list are shown without being asked for."""


class ActorFilter(TextInputFilter):
    title = "actor"
    parameter_name = "by"
    label = "Username of the staff member"

    def filter(self, queryset: Any, text: str) -> Any:
        return queryset.filter(actor_name=text)


@admin.register(AuditEntry)
class AuditEntryAdmin(StrictLookupsMixin, ReadOnlyAdminMixin, admin.ModelAdmin[AuditEntry]):
    """The audit log."""

    list_display = ("time", "actor_name", "action", "target_link", "changes", "request_id")
    list_display_links = ("time",)
    list_filter = ("action", "kind", ActorFilter)
    list_per_page = 50
    date_hierarchy = "when"
    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
    search_fields = ("=target", "=request_id")
    search_help_text = "The id of a changed row, or of a request."
    fields = ("time", "actor_name", "action", "kind", "target_link", "changes", "request_id")
    readonly_fields = fields
    change_list_template = "admin/accounts/auditentry/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        export = path("export/", self.admin_site.admin_view(self.export), name="accounts_auditentry_export")
        return [export, *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """Download the filtered list as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            # Like the list itself, which then shows all rows.
            return redirect(reverse("admin:accounts_auditentry_changelist") + f"?{ERROR_FLAG}=1")
        rows = changelist.get_queryset(request).iterator(chunk_size=500)
        filename = f"audit-{timezone.now():%Y%m%d-%H%M}.csv"
        return csv_response(filename, _CSV_COLUMNS, ([_csv_value(row, name) for name in _CSV_COLUMNS] for row in rows))

    @admin.display(description="when")
    def time(self, entry: AuditEntry) -> str:
        return f"{timezone.localtime(entry.when):%Y-%m-%d %H:%M:%S}"

    @admin.display(description="target")
    def target_link(self, entry: AuditEntry) -> SafeString | str:
        kind = entry.kind.replace(".", "_")
        try:
            url = reverse(f"admin:{kind}_change", args=[entry.target]) if kind else ""
        except NoReverseMatch:
            url = ""
        name = entry.kind.rpartition(".")[2]
        if not url:
            return f"{name} {entry.target}".strip()
        return format_html('{} <a href="{}">{}</a>', name, url, entry.target)

    @admin.display
    def changes(self, entry: AuditEntry) -> SafeString | str:
        """The changed values, each as `name: before → after`; a long new list is folded behind its length."""
        before, after = entry.before or {}, entry.after or {}
        lines = []
        for name in [*before, *(name for name in after if name not in before)]:
            new = after.get(name, "removed")
            if isinstance(new, list) and len(new) > _MOST_UNFOLDED and name not in before:
                values = ", ".join(map(str, new))
                lines.append(format_html("<details><summary>{}: {}</summary>{}</details>", name, len(new), values))
            else:
                old = f"{_text(before[name])} → " if name in before else ""
                lines.append(format_html("<div>{}: {}{}</div>", name, old, _text(new)))
        return (
            format_html('<div class="changes">{}</div>', format_html_join("", "{}", ((line,) for line in lines)))
            if lines
            else ""
        )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _csv_value(entry: AuditEntry, name: str) -> Any:
    value = getattr(entry, name)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
