"""Lists of the admin that are narrowed down by what they offer for that, and by nothing else."""

from typing import Any, ClassVar

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest

_OF_A_VALUE = ("", "exact", "isnull")
_OF_A_DATE = ("year", "month", "day")


class StrictLookupsMixin:
    """For a ModelAdmin, before it in the order of bases.

    Django lets an address ask for any lookup of a model's own fields. So whoever may see a list could spell out what it
    does not show (`note__startswith=a`), scan the table, or let the database fail (`prompt__regex=(`). Here such an address
    leads to the list without filters, as other nonsense does.
    """

    model: Any
    date_hierarchy: ClassVar[str | None]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        if not super().lookup_allowed(lookup, value, request):  # type: ignore[misc]
            return False
        field, _, kind = lookup.partition(LOOKUP_SEP)
        if field == self.date_hierarchy:
            return kind in _OF_A_DATE
        filters = self.get_list_filter(request)  # type: ignore[attr-defined]
        if lookup in [getattr(one, "parameter_name", None) for one in filters]:
            return True
        if field in filters:
            return kind.rpartition(LOOKUP_SEP)[2] in _OF_A_VALUE
        return field not in {own.name for own in self.model._meta.get_fields()}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)  # type: ignore[misc]
        except (DisallowedModelAdminLookup, OverflowError, ValueError) as error:
            # Beside what is not offered: years that no date can have. Django expects all other nonsense.
            raise IncorrectLookupParameters from error
