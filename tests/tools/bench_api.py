"""The requests of the API that `tests.tools.bench_pages` measures."""

from datetime import UTC, datetime, timedelta
from typing import Any


def page_set() -> dict[str, Any]:
    """Return the user whose token asks, the addresses by label, and the text that each record has once."""
    year_ago = f"{datetime.now(UTC) - timedelta(days=365):%Y-%m-%d}"
    month_later = f"{datetime.now(UTC) - timedelta(days=335):%Y-%m-%d}"
    queries = {
        "the newest": "",
        "100 at once": "limit=100",
        "in a month a year ago": f"created_after={year_ago}&created_before={month_later}",
        "failed": "state=failed",
        "queued (no records)": "state=queued",
        "of a model": "model_id=stabilityai/sd-turbo",
        "failed, of a model": "state=failed&model_id=stabilityai/sd-turbo",
        "flagged": "nsfw=true",
        "flagged, failed (no records)": "nsfw=true&state=failed",
        "not flagged": "nsfw=false",
        "a text in a tenth of the prompts": "prompt=lighthouse",
        "a text in no prompt": "prompt=xylophone",
        "a text in no prompt, in a month a year ago": (
            f"prompt=xylophone&created_after={year_ago}&created_before={month_later}"
        ),
    }
    addresses = {name: f"/generations?{query}" for name, query in queries.items()}
    addresses["an old record"] = "/generations/{oldest}"
    addresses["models"] = "/models"
    return {"username": "demo-1", "addresses": addresses, "row_html": '"progress":'}
