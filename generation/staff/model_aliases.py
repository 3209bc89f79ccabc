"""Aliases of models in the admin, for operators."""

from django.contrib import admin

from accounts.admin_tools.audited import AuditedAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation.models import ModelAlias
from generation.staff.permissions import OperatorsOnlyMixin


@admin.register(ModelAlias)
class ModelAliasAdmin(StrictLookupsMixin, OperatorsOnlyMixin, AuditedAdminMixin, admin.ModelAdmin[ModelAlias]):
    list_display = ("name", "model")
    list_select_related = ("model",)
    search_fields = ("name",)
    empty_value_display = "the default model"
