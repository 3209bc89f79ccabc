"""The module that Django's admin discovers. The admin classes are in `generation.staff`."""

from django.contrib import admin

from generation.staff.generations import GenerationAdmin
from generation.staff.model_aliases import ModelAliasAdmin
from generation.staff.model_catalog import DiffusionModelAdmin, LoraAdmin
from generation.staff.retention_rules import RetentionRuleAdmin
from generation.staff.review_decisions import ReviewDecisionAdmin
from generation.staff.users import StaffUserAdmin

__all__ = [
    "DiffusionModelAdmin",
    "GenerationAdmin",
    "LoraAdmin",
    "ModelAliasAdmin",
    "RetentionRuleAdmin",
    "ReviewDecisionAdmin",
    "StaffUserAdmin",
]

admin.site.site_header = "Dreamsite"
admin.site.site_title = "Dreamsite"
admin.site.index_title = "Administration"
# The lists need the width; breadcrumbs lead to the other tables.
admin.site.enable_nav_sidebar = False
