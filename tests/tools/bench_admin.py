"""The admin pages that `tests.tools.bench_pages` measures."""

from datetime import UTC, datetime, timedelta
from typing import Any


def page_set() -> dict[str, Any]:
    """Return the user to sign in as, the addresses by label, and the HTML text that each row of a page has once."""
    month = f"{datetime.now(UTC) - timedelta(days=365):%Y-%m}"
    queries = {
        "the newest": "",
        "page 100": "p=100",
        "failed": "state__exact=failed",
        "queued (no rows)": "state__exact=queued",
        "of a model": "model__id__exact=stabilityai/sd-turbo",
        "failed, of a model": "state__exact=failed&model__id__exact=stabilityai/sd-turbo",
        "flagged": "flagged=yes",
        "flagged, failed (no rows)": "flagged=yes&state__exact=failed",
        "flagged, of a model": "flagged=yes&model__id__exact=stabilityai/sd-turbo",
        "flagged, of a user with a tenth of the rows": "flagged=yes&user=demo-1",
        "flagged, in a month a year ago": f"flagged=yes&date={month}",
        "awaiting review": "review=waiting",
        "awaiting review, failed (no rows)": "review=waiting&state__exact=failed",
        "of an error": "error=out_of_memory",
        "of an error, canceled (no rows)": "error=out_of_memory&state__exact=canceled",
        "of an error (no rows)": "error=internal_error",
        "of a user with a tenth of the rows": "user=demo-1",
        "of a user with a thousandth of the rows": "user=demo-2",
        "of a user, failed": "user=demo-2&state__exact=failed",
        "in a month a year ago": f"date={month}",
        "failed in a month a year ago": f"date={month}&state__exact=failed",
        "on legal hold (no rows)": "legal_hold=yes",
        "a word in a fifth of the rows": "q=fog",
        "a word in a tenth of the rows": "q=lighthouse",
        "a start of words": "q=li",
        "two words": "q=lighthouse+fog",
        "a word in no row": "q=xylophone",
        "a word, queued (no rows)": "q=fog&state__exact=queued",
        "a word, failed": "q=fog&state__exact=failed",
        "a word, flagged, failed (no rows)": "q=fog&flagged=yes&state__exact=failed",
        "a word, flagged": "q=fog&flagged=yes",
        "a word, of a user with a tenth of the rows": "q=fog&user=demo-1",
        "a word, of a user with a thousandth of the rows": "q=fog&user=demo-2",
        "a username with a tenth of the rows": "q=demo-1",
        "a username and a word": "q=demo-2+fog",
        "a word in a month a year ago": f"q=fog&date={month}",
        "a seed of many rows": "q=1207",
        "a seed of no row": "q=2147483999",
    }
    pages = {name: f"/admin/generation/generation/?{query}" for name, query in queries.items()}
    pages["the overview"] = "/admin/"
    pages["an old generation"] = "/admin/generation/generation/{oldest}/change/"
    pages["users"] = "/admin/accounts/user/"
    pages["a user's name"] = "/admin/accounts/user/?q=demo-77"
    pages["no user's name"] = "/admin/accounts/user/?q=xylophone"
    pages["staff, of users"] = "/admin/accounts/user/?is_staff__exact=1"
    pages["a user"] = "/admin/accounts/user/{user}/change/"
    pages["tokens"] = "/admin/accounts/apitoken/"
    pages["the audit log"] = "/admin/accounts/auditentry/"
    pages["the review page"] = "/admin/review/"
    pages["a review batch"] = "/admin/review/batch/"
    pages["the review metrics of a month"] = "/admin/review/metrics/"
    pages["the review metrics of a year"] = "/admin/review/metrics/?days=365"
    pages["the operations page"] = "/admin/operations/"
    return {"username": "staff", "addresses": pages, "row_html": 'class="action-select"'}
