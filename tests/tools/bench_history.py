"""The pages of the history that are measured: see `tests.tools.bench_pages`."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID


def asked() -> dict[str, Any]:
    """As whom, which addresses by name, and what each thing shown is counted by."""
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
        "flagged and failed, which nothing is": "flagged=true&state=failed",
        "a seed that many use": "seed=42",
        "a seed that nobody uses": "seed=2147483999",
        "a month a year ago": f"since={ago(395)}&until={ago(365)}",
        "failed in a month a year ago": f"since={ago(395)}&until={ago(365)}&state=failed",
        "a word that is in a tenth": "q=lighthouse",
        "a start of words": "q=li",
        "two words": "q=lighthouse+fog",
        "three words and a start": "q=lighthouse+soft+light+wat",
        "a word that nobody wrote": "q=xylophone",
        "a word, 22 months deep": f"q=fog&before={old}",
        "a word among favourites": "q=lighthouse&favourite=true",
        "a word among the failed": "q=fog&state=failed",
        "a word among the queued, of which there are none": "q=fog&state=queued",
        "a word among flagged ones that failed, none": "q=fog&state=failed&flagged=true",
        "a word with a LoRA": "q=fog&lora=demo/claymation",
        "a word and a seed": "q=fog&seed=42",
        "a word in a month a year ago": f"q=fog&since={ago(395)}&until={ago(365)}",
        "a word of a title": "q=grandma",
    }
    addresses = {name: f"/history/?{query}" for name, query in queries.items()}
    return {"as": "demo-1", "addresses": addresses, "mark": "<article"}
