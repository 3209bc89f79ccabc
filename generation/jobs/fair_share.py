"""Whose turn it is: the user who was served least of late, weighed by cost.

The order of a pool's queue: first what was begun and lost its worker or was handed back; then by priority; then the user
whose decayed sum of served cost is least; among one user's requests those whose model is warm, unless a cold one has been
passed over too often; then by arrival. The sum halves every `HALF_LIFE` seconds without being touched: kept as
log2(sum of cost x 2^(time / HALF_LIFE)), it grows with later costs instead, and compares the same at any time (forward
decay: Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009).
"""

import math
from datetime import datetime

from generation.recipes import Recipe

HALF_LIFE = 600.0
"""Seconds after which what a user was served counts half."""

LEAST_COST = 1e-4


def cost(recipe: Recipe, weight: float) -> float:
    """Executed steps x megapixels x images x model weight."""
    megapixels = recipe.width * recipe.height / 1e6
    return recipe.executed_steps * megapixels * len(recipe.seeds) * weight


def charge(usage: float, cost: float, now: datetime) -> float:
    """The new `UserShare.decayed_usage` of a user who had `served` (0: nothing yet) and is served `cost` now."""
    added = now.timestamp() / HALF_LIFE + math.log2(max(cost, LEAST_COST))
    high, low = max(usage, added), min(usage, added)
    return high + math.log2(1 + 2.0 ** (low - high))


def refund(usage: float, cost: float, when: datetime) -> float:
    """The new `UserShare.decayed_usage` of a user who was served `cost` less at `when` than was counted then."""
    left = 1 - cost * 2.0 ** (when.timestamp() / HALF_LIFE - usage)
    # Rounding leaves a trace of what was all there was.
    return usage + math.log2(left) if left > 1e-6 else 0.0
