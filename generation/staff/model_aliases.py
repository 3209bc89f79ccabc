"""Aliases of models in the admin, for operators."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin_tools.audited import AuditedAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation.models import ModelAlias
from generation.staff.permissions import OperatorsOnlyMixin

_DEFAULT = "the default model"


@admin.register(ModelAlias)
class ModelAliasAdmin(StrictLookupsMixin, OperatorsOnlyMixin, AuditedAdminMixin, admin.ModelAdmin[ModelAlias]):
    list_display = ("name", "model")
    list_select_related = ("model",)
    search_fields = ("name",)
    empty_value_display = _DEFAULT

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(db_field, request, **kwargs, empty_label=_DEFAULT)
