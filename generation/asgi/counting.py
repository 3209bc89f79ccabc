"""Count what happens at the same time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def counted(counts: Counter[str], key: str) -> Iterator[None]:
    """Count one more of this key within the context. A key without any is removed, so that `counts` stays small."""
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
