"""The audit log in the admin, to be read and exported, and the part of other admin pages that writes it."""

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import audit, csv_export
from accounts.models import AuditEntry
from accounts.read_only_admin import ReadOnlyAdminMixin
from accounts.strict_lookups import StrictLookupsMixin
from accounts.text_input_filter import TextInputFilter

_SECRETS = frozenset({"password", "password1", "password2", "usable_password"})


class Audited:
    """A ModelAdmin whose changes are in the audit log, with the values before and after; passwords are only named."""

    def save_related(self, request: HttpRequest, form: ModelForm[Any], formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        names = [name for name in form.changed_data if name in form.fields]
        before = {name: _shown(name, form.get_initial_for_field(form.fields[name], name)) for name in names}
        after = {name: _shown(name, form.cleaned_data.get(name)) for name in names}
        if names or not change:
            verb = "change" if change else "add"
            audit.record(request.user, _action(form.instance, verb), form.instance, before if change else None, after)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        audit.record(request.user, _action(obj, "delete"), obj, {"name": str(obj)}, None)
        super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            audit.record(request.user, _action(row, "delete"), row, {"name": str(row)}, None)
        super().delete_queryset(request, queryset)  # type: ignore[misc]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _action(row: Model, verb: str) -> str:
    return f"{row._meta.model_name}.{verb}"


def _shown(name: str, value: Any) -> Any:
    return "(not shown)" if name in _SECRETS else list(value) if isinstance(value, QuerySet) else value


class By(TextInputFilter):
    title = "actor"
    parameter_name = "by"
    label = "Username of the staff member"

    def matching(self, queryset: Any, text: str) -> Any:
        return queryset.filter(actor_name=text)


@admin.register(AuditEntry)
class AuditEntryAdmin(StrictLookupsMixin, ReadOnlyAdminMixin, admin.ModelAdmin[AuditEntry]):
    """The log: nobody adds to it, changes or deletes it here."""

    list_display = ("time", "actor_name", "action", "what", "changes", "request_id")
    list_display_links = ("time",)
    list_filter = ("action", "kind", By)
    list_per_page = 50
    date_hierarchy = "when"
    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
    search_fields = ("=target", "=request_id")
    search_help_text = "The id of what was changed, or of a request."
    fields = ("time", "actor_name", "action", "kind", "what", "changes", "request_id")
    readonly_fields = fields
    change_list_template = "admin/accounts/auditentry/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        export = path("export/", self.admin_site.admin_view(self.export), name="accounts_auditentry_export")
        return [export, *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """What the list shows with these filters, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            listed = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            # To the list without filters, as the list itself does.
            return redirect(reverse("admin:accounts_auditentry_changelist") + f"?{ERROR_FLAG}=1")
        rows = listed.get_queryset(request).iterator(chunk_size=500)
        names = ("when", "actor_name", "action", "kind", "target", "before", "after", "request_id")
        return csv_export.streamed(
            f"audit-{timezone.now():%Y%m%d-%H%M}.csv",
            names,
            ([_cell(getattr(row, name)) for name in names] for row in rows),
        )

    @admin.display(description="when")
    def time(self, entry: AuditEntry) -> str:
        return f"{timezone.localtime(entry.when):%Y-%m-%d %H:%M:%S}"

    @admin.display(description="target")
    def what(self, entry: AuditEntry) -> SafeString | str:
        kind = entry.kind.replace(".", "_")
        try:
            address = reverse(f"admin:{kind}_change", args=[entry.target]) if kind else ""
        except NoReverseMatch:
            address = ""
        name = entry.kind.rpartition(".")[2]
        if not address:
            return f"{name} {entry.target}".strip()
        return format_html('{} <a href="{}">{}</a>', name, address, entry.target)

    @admin.display
    def changes(self, entry: AuditEntry) -> SafeString | str:
        """Each value that changed, as `name: before → after`."""
        before, after = entry.before or {}, entry.after or {}
        lines = []
        for name in [*before, *(name for name in after if name not in before)]:
            old = f"{before[name]} → " if name in before else ""
            lines.append(f"{name}: {old}{after.get(name, 'gone')}")
        return format_html('<span class="changes">{}</span>', "\n".join(lines)) if lines else ""
