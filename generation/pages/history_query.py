"""What the history is narrowed down to, as addresses say it: it goes along to the pages of what is found, and back."""

from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from django.http import QueryDict
from pydantic import ValidationError

from generation import display
from generation.filters import HistoryFilters
from generation.parameters import error_items


@dataclass(frozen=True)
class Narrowed:
    """`query` is what an address needs to mean the same, "" or such as `?q=night`. `wrong` says why nothing is asked for."""

    filters: HistoryFilters
    query: str
    wrong: list[str]

    @property
    def appended(self) -> str:
        """The same for an address that has a query already, "" or such as `&q=night`."""
        return self.query.replace("?", "&", 1)


def narrowed(given: QueryDict) -> Narrowed:
    """What this query narrows the history down to; names that mean nothing to the history do not count."""
    known = [(name, values) for name, values in given.lists() if name in HistoryFilters.model_fields]
    try:
        filters = HistoryFilters.from_query(known)
    except ValidationError as error:
        items = error_items(error, HistoryFilters, "query")
        wrong = [f"{str(item['loc'][-1]).replace('_', ' ')}: {display.complaint(item)}" for item in items]
        return Narrowed(HistoryFilters(), "", wrong)
    pairs = [(name, value) for name, values in known for value in values if value]
    return Narrowed(filters, f"?{urlencode(pairs)}" if pairs else "", [])


def narrowed_by(address: str) -> Narrowed:
    """What an address such as that of a page of the history asks for."""
    return narrowed(QueryDict(urlsplit(address).query))
