"""What each worker says of itself, for whoever operates the service. It is kept in Redis, and losing it loses nothing."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from generation import doorbell

SILENT_SECONDS = doorbell.ANNOUNCEMENT_SECONDS
_CARD = "dreamsite:card:"
_KEPT_SECONDS = 3600
"""How long a worker that went without a word is remembered."""


@dataclass(frozen=True)
class Card:
    """A worker. Memory is in bytes, `started` a Unix time; `problem` is what it could not do for itself, in words.

    `silence` is how many seconds ago it was heard of, by Redis's own clock.
    """

    name: str
    pool: str
    host: str
    pid: int
    device: str
    memory_used: int
    memory_total: int
    started: float
    models: list[str] = field(default_factory=list)
    is_drained: bool = False
    problem: str = ""
    silence: float = 0.0

    @property
    def is_silent(self) -> bool:
        return self.silence > SILENT_SECONDS


def show(card: Card) -> None:
    """Show the worker's card, repeated well within SILENT_SECONDS. Raises `RedisError`."""
    doorbell.redis().set(_CARD + card.name, json.dumps(asdict(card)), ex=_KEPT_SECONDS)


def take_down(name: str) -> None:
    """Forget a worker that has ended. Raises `RedisError`."""
    doorbell.redis().delete(_CARD + name)


def take_down_all() -> None:
    """Forget all, when it is known that none of them lives. Raises `RedisError`."""
    for key in _keys():
        doorbell.redis().delete(key)


def shown() -> list[Card]:
    """The cards of all workers that were heard of within the hour, by pool and name. Raises `RedisError`."""
    keys = list(_keys())
    with doorbell.redis().pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.get(key)
            pipe.pttl(key)
        answers: list[Any] = pipe.execute()
    cards = [
        Card(**json.loads(text) | {"silence": max(0.0, _KEPT_SECONDS - left / 1000)})
        for text, left in zip(answers[::2], answers[1::2], strict=True)
        if text
    ]
    return sorted(cards, key=lambda card: (card.pool, card.name))


def _keys() -> Iterable[Any]:
    return doorbell.redis().scan_iter(match=_CARD + "*", count=1000)
