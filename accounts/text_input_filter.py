"""A filter of the admin's lists that is a field to type into, for what is too much to be listed."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest


class TextInputFilter(admin.SimpleListFilter):
    """`label` names the field; `matching` finds the rows of a text that is not empty."""

    label = ""
    template = "admin/text_input_filter.html"

    def matching(self, queryset: Any, text: str) -> Any:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The text that is asked for, what else the address says, and the address without a text."""
        others = [(name, value) for name, values in changelist.filter_params.items() for value in values]
        yield {
            "label": self.label,
            "text": self.value() or "",
            "others": [pair for pair in others if pair[0] != self.parameter_name],
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
        }

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        text = (self.value() or "").replace("\0", "").strip()
        return self.matching(queryset, text) if text else queryset
