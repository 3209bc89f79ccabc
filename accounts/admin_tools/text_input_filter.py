"""An admin list filter with a text field, for columns with too many values to list."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest


class TextInputFilter(admin.SimpleListFilter):
    """A list filter by typed text; `label` names the field."""

    label = ""
    template = "admin/text_input_filter.html"

    def filter(self, queryset: Any, text: str) -> Any:
        """Return the rows that match this text, which is not empty."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the template's context: the text, the other parameters of the list, and the URL without this filter."""
        others = [(name, value) for name, values in changelist.filter_params.items() for value in values]
        yield {
            "label": self.label,
            "text": self.value() or "",
            "others": [pair for pair in others if pair[0] != self.parameter_name],
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
        }

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        text = (self.value() or "").replace("\0", "").strip()
        return self.filter(queryset, text) if text else queryset
