"""The module that Django's admin discovers. The admin classes are in `generation.staff`."""

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
