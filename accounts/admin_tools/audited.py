"""Admin pages whose changes are recorded in the audit log."""

from typing import Any

from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from accounts import audit

_HIDDEN_FIELDS = frozenset(
    {"password", "password1", "password2", "usable_password", "email", "first_name", "last_name"}
)
"""Secrets, and what says who a user is: the log outlives the account."""


class AuditedAdminMixin:
    """A ModelAdmin that records what its forms change, with the values before and after; hidden fields only by name."""

    def save_related(self, request: HttpRequest, form: ModelForm[Any], formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        names = [name for name in form.changed_data if name in form.fields]
        before = {name: _masked(name, form.get_initial_for_field(form.fields[name], name)) for name in names}
        after = {name: _masked(name, form.cleaned_data.get(name)) for name in names}
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


def _action(row: Model, verb: str) -> str:
    return f"{row._meta.model_name}.{verb}"


def _masked(name: str, value: Any) -> Any:
    if name in _HIDDEN_FIELDS:
        return "(not shown)"
    return list(value) if isinstance(value, QuerySet) else value
