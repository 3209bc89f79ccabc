"""Fair share: the user with the least recent usage goes first.

A pool's queue is ordered by:

1. rows that a worker released or lost, so that a retry does not queue again;
2. priority;
3. recent usage of the user, the least first; with equal costs this is round-robin over users;
4. model affinity: a user's rows for a loaded model, unless a row has been skipped `MAX_AFFINITY_SKIPS` times;
5. arrival.

Usage is the sum of costs that started, and halves every `HALF_LIFE` seconds. It is stored as
log2(sum of cost x 2^(start time / HALF_LIFE)), so that values compare the same at any time and need no updates while nothing
starts (forward decay: Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009).
"""

import math
from datetime import datetime

HALF_LIFE = 600.0
"""Seconds after which a usage counts half."""

LEAST_COST = 1e-4


def charge(usage: float, cost: float, now: datetime) -> float:
    """Return the `UserShare.decayed_usage` after a start of `cost` at `now`. `usage` is the value before, 0 for none."""
    added = now.timestamp() / HALF_LIFE + math.log2(max(cost, LEAST_COST))
    high, low = max(usage, added), min(usage, added)
    return high + math.log2(1 + 2.0 ** (low - high))


def refund(usage: float, cost: float, when: datetime) -> float:
    """Return the `UserShare.decayed_usage` without `cost` of what was charged at `when`."""
    remaining = 1 - cost * 2.0 ** (when.timestamp() / HALF_LIFE - usage)
    # Rounding errors remain where everything is refunded.
    return usage + math.log2(remaining) if remaining > 1e-6 else 0.0
