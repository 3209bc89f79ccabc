"""The history's filters in the query of an address. The pages of generations carry it, so that they lead back."""

from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from django.http import QueryDict
from pydantic import ValidationError

from generation import display
from generation.filters import HistoryFilters
from generation.parameters import error_items


@dataclass(frozen=True)
class HistoryQuery:
    """The filters of a query. If it is invalid, `errors` has sentences that say why, and there are no filters.

    `querystring` sets the same filters in another address: empty, or such as `?q=night`.
    """

    filters: HistoryFilters
    querystring: str
    errors: list[str]

    @property
    def querystring_suffix(self) -> str:
        """The same for an address that already has a query: empty, or such as `&q=night`."""
        return self.querystring.replace("?", "&", 1)


def parse_query(query: QueryDict) -> HistoryQuery:
    """Parse the filters of a query; other names are ignored."""
    items = [(name, values) for name, values in query.lists() if name in HistoryFilters.model_fields]
    try:
        filters = HistoryFilters.from_query(items)
    except ValidationError as error:
        errors = [
            f"{str(item['loc'][-1]).replace('_', ' ')}: {display.error_sentence(item)}"
            for item in error_items(error, HistoryFilters, "query")
        ]
        return HistoryQuery(HistoryFilters(), "", errors)
    pairs = [(name, value) for name, values in items for value in values if value]
    return HistoryQuery(filters, f"?{urlencode(pairs)}" if pairs else "", [])


def parse_address(address: str) -> HistoryQuery:
    """Parse the filters of an address, such as that of a page of the history."""
    return parse_query(QueryDict(urlsplit(address).query))
