"""The history pages that `tests.tools.bench_pages` measures."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID


def page_set() -> dict[str, Any]:
    """Return the user to sign in as, the addresses by label, and the HTML text that each row of a page has once."""
    now = datetime.now(UTC).date()

    def ago(days: int) -> str:
        return str(now - timedelta(days=days))

    old = UUID(int=int((time.time() - 650 * 24 * 3600) * 1000) << 80)
    queries = {
        "the newest": "",
        "a page 22 months deep": f"before={old}",
        "succeeded": "state=succeeded",
        "failed": "state=failed",
        "canceled, 22 months deep": f"state=canceled&before={old}",
        "of a model": "model_id=stabilityai/sd-turbo",
        "failed, of a model": "state=failed&model_id=stabilityai/sd-turbo",
        "with a LoRA": "lora=demo/claymation",
        "with a LoRA, failed": "lora=demo/claymation&state=failed",
        "favourites": "favourite=true",
        "flagged": "flagged=true",
        "flagged favourites": "flagged=true&favourite=true",
        "flagged, failed (no rows)": "flagged=true&state=failed",
        "a seed of many rows": "seed=42",
        "a seed of no row": "seed=2147483999",
        "a month a year ago": f"since={ago(395)}&until={ago(365)}",
        "failed in a month a year ago": f"since={ago(395)}&until={ago(365)}&state=failed",
        "a word in a tenth of the rows": "q=lighthouse",
        "a start of words": "q=li",
        "two words": "q=lighthouse+fog",
        "three words and a start": "q=lighthouse+soft+light+wat",
        "a word in no row": "q=xylophone",
        "a word, 22 months deep": f"q=fog&before={old}",
        "a word, favourites": "q=lighthouse&favourite=true",
        "a word, failed": "q=fog&state=failed",
        "a word, queued (no rows)": "q=fog&state=queued",
        "a word, flagged, failed (no rows)": "q=fog&state=failed&flagged=true",
        "a word with a LoRA": "q=fog&lora=demo/claymation",
        "a word and a seed": "q=fog&seed=42",
        "a word in a month a year ago": f"q=fog&since={ago(395)}&until={ago(365)}",
        "a word of a title": "q=grandma",
    }
    addresses = {name: f"/history/?{query}" for name, query in queries.items()}
    addresses["an old generation"] = "/history/{oldest}/"
    addresses["the studio"] = "/"
    addresses["usage of 90 days"] = "/usage/?days=90"
    addresses["the trash"] = "/trash/"
    addresses["albums"] = "/albums/"
    addresses["links"] = "/links/"
    addresses["settings"] = "/settings/"
    return {"username": "demo-1", "addresses": addresses, "row_html": "<article"}
