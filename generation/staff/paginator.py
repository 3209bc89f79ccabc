"""A paginator for tables that are too large to count."""

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

from generation.models import Generation


class CountlessPaginator(Paginator[Generation]):
    """A paginator that counts only up to the current page and whether another one follows."""

    object_list: QuerySet[Generation]

    def __init__(self, rows: QuerySet[Generation], per_page: int, page_number: int) -> None:
        super().__init__(rows, per_page)
        self.page_number = page_number

    @cached_property
    def count(self) -> int:
        start = (self.page_number - 1) * self.per_page
        rows = self.object_list.prefetch_related(None).values_list("pk")
        return start + len(rows[start : start + self.per_page + 1])
