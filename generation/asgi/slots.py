"""Which requests are in Django: a bounded number at a time, and of that a share for each caller.

Requests with pictures, whose decoding takes long, have half of the slots at most, so others never wait for them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

SLOTS = 8
"""As many threads Django has."""

SLOTS_OF_ONE = 4
"""Of a caller."""

SLOTS_WITH_PICTURES = 4
SLOTS_WITH_PICTURES_OF_ONE = 2
"""As many as are decoded at a time."""


class _Kind(NamedTuple):
    caller: str
    has_picture: bool


class Slots:
    """The slots of a process. Of the callers who wait each has one request admitted in turn."""

    def __init__(self) -> None:
        self._taken: Counter[_Kind] = Counter()
        self._waiting: dict[_Kind, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, caller: str, *, has_picture: bool) -> AsyncIterator[None]:
        """Wait for a slot, and hold it within the context."""
        kind = _Kind(caller, has_picture)
        await self._enter(kind)
        try:
            yield
        finally:
            self._leave(kind)

    async def _enter(self, kind: _Kind) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(admitted)
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():
                self._leave(kind)
            raise

    def _leave(self, kind: _Kind) -> None:
        self._taken[kind] -= 1
        if not self._taken[kind]:
            del self._taken[kind]
        self._admit()

    def _admit(self) -> None:
        """Admit who may enter: the first of each kind in turn, until the slots are taken or nobody who waits may have one."""
        has_admitted = True
        while has_admitted:
            has_admitted = False
            for kind in list(self._waiting):
                if self._taken.total() == SLOTS:
                    return
                if self._has_room(kind):
                    self._admit_first(kind)
                    has_admitted = True

    def _admit_first(self, kind: _Kind) -> None:
        queue = self._waiting.pop(kind)
        admitted = queue.popleft()
        if queue:
            # At the end: the others come first.
            self._waiting[kind] = queue
        # The request may have been given up meanwhile.
        if not admitted.cancelled():
            admitted.set_result(None)
            self._taken[kind] += 1

    def _has_room(self, kind: _Kind) -> bool:
        if self._taken[_Kind(kind.caller, False)] + self._taken[_Kind(kind.caller, True)] >= SLOTS_OF_ONE:
            return False
        if not kind.has_picture:
            return True
        with_pictures = sum(count for taken, count in self._taken.items() if taken.has_picture)
        return with_pictures < SLOTS_WITH_PICTURES and self._taken[kind] < SLOTS_WITH_PICTURES_OF_ONE
