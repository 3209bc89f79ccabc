"""The pages of the admin that are measured: see `tests.tools.bench_pages`."""

from datetime import UTC, datetime, timedelta
from typing import Any


def asked() -> dict[str, Any]:
    """As whom, which addresses by name, and what each thing shown is counted by."""
    month = f"{datetime.now(UTC) - timedelta(days=365):%Y-%m}"
    queries = {
        "the newest": "",
        "page 100": "p=100",
        "failed": "state__exact=failed",
        "queued, of which there are none": "state__exact=queued",
        "of a model": "model__id__exact=stabilityai/sd-turbo",
        "failed, of a model": "state__exact=failed&model__id__exact=stabilityai/sd-turbo",
        "flagged": "flagged=yes",
        "flagged and failed, which nothing is": "flagged=yes&state__exact=failed",
        "flagged, of a model": "flagged=yes&model__id__exact=stabilityai/sd-turbo",
        "flagged, of one with a tenth": "flagged=yes&user=demo-1",
        "flagged, in a month a year ago": f"flagged=yes&date={month}",
        "awaiting review": "review=waiting",
        "awaiting review, failed, which nothing is": "review=waiting&state__exact=failed",
        "of an error": "error=out_of_memory",
        "of an error, canceled, which nothing is": "error=out_of_memory&state__exact=canceled",
        "of an error that nothing has": "error=internal_error",
        "of one with a tenth": "user=demo-1",
        "of one with a thousandth": "user=demo-2",
        "of one, failed": "user=demo-2&state__exact=failed",
        "in a month a year ago": f"date={month}",
        "failed in a month a year ago": f"date={month}&state__exact=failed",
        "on hold, none": "legal_hold=yes",
        "a word that is in a fifth": "q=fog",
        "a word that is in a tenth": "q=lighthouse",
        "a start of words": "q=li",
        "two words": "q=lighthouse+fog",
        "a word that nobody wrote": "q=xylophone",
        "a word among the queued, of which there are none": "q=fog&state__exact=queued",
        "a word among the failed": "q=fog&state__exact=failed",
        "a word among flagged ones that failed, none": "q=fog&flagged=yes&state__exact=failed",
        "a word among the flagged": "q=fog&flagged=yes",
        "a word of one with a tenth": "q=fog&user=demo-1",
        "a word of one with a thousandth": "q=fog&user=demo-2",
        "a name with a tenth": "q=demo-1",
        "a name and a word": "q=demo-2+fog",
        "a word in a month a year ago": f"q=fog&date={month}",
        "a seed that many use": "q=1207",
        "a seed that nobody uses": "q=2147483999",
    }
    pages = {name: f"/admin/generation/generation/?{query}" for name, query in queries.items()}
    pages["people"] = "/admin/accounts/user/"
    pages["the audit log"] = "/admin/accounts/auditentry/"
    pages["the review page"] = "/admin/review/"
    pages["what a month of reviews taught"] = "/admin/review/insight/"
    pages["what a year of reviews taught"] = "/admin/review/insight/?days=365"
    pages["the operations page"] = "/admin/operations/"
    return {"as": "staff", "addresses": pages, "mark": 'class="action-select"'}
