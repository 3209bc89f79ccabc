"""Admin lists that accept only the lookups of their own filters."""

from typing import Any, ClassVar

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest

_VALUE_LOOKUPS = ("", "exact", "isnull")
_DATE_LOOKUPS = ("year", "month", "day")


class StrictLookupsMixin:
    """A ModelAdmin whose query string may use only `list_filter` and `date_hierarchy`; stands first in the bases.

    Django allows any lookup on a model's own fields. Whoever sees a list could guess values that it does not show
    (`note__startswith=a`), scan the table, or raise a database error (`prompt__regex=(`). Such a URL leads to the list
    without filters, as Django does for other invalid ones.
    """

    model: Any
    date_hierarchy: ClassVar[str | None]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        if not super().lookup_allowed(lookup, value, request):  # type: ignore[misc]
            return False
        field_name, _, transform = lookup.partition(LOOKUP_SEP)
        if field_name == self.date_hierarchy:
            return transform in _DATE_LOOKUPS
        filters = self.get_list_filter(request)  # type: ignore[attr-defined]
        if lookup in [getattr(list_filter, "parameter_name", None) for list_filter in filters]:
            return True
        if field_name in filters:
            return transform.rpartition(LOOKUP_SEP)[2] in _VALUE_LOOKUPS
        return field_name not in {field.name for field in self.model._meta.get_fields()}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)  # type: ignore[misc]
        except (DisallowedModelAdminLookup, OverflowError, ValueError) as error:
            # Overflow and value errors come from years that no date has; Django handles all others itself.
            raise IncorrectLookupParameters from error
