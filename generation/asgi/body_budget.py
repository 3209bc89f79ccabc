"""How many bytes of requests' bodies a process holds at a time: of all clients, and of one."""

from collections import Counter
from typing import Self

from django.conf import settings

from generation.parameters import ErrorCode, Refusal

MAX_BODIES = 32
"""Bodies of the largest size that are held at a time; of smaller ones accordingly more."""

MAX_BODIES_OF_ONE = 8
"""The same for one user, or for an address whose user is not known."""

MAX_VERIFIED = 8
MAX_VERIFIED_OF_ONE = 2
"""The same for pictures that anybody sends to have them verified."""

_FULL = "The service is receiving as many requests as it has room for; try again in {} seconds."
_FULL_OF_ONE = "You are sending {:,} bytes at a time, the maximum; wait for the answers to some requests."


class BodyBudget:
    """Counts the bytes that are held for each owner: as many as so many of the largest bodies have."""

    def __init__(self, bodies: int = MAX_BODIES, bodies_of_one: int = MAX_BODIES_OF_ONE) -> None:
        self._bodies = bodies
        self._bodies_of_one = bodies_of_one
        self._held: Counter[str] = Counter()
        self._total = 0

    def share(self, owner: str) -> "Share":
        """Return an empty share for one body of this owner."""
        return Share(self, owner)

    def hold(self, owner: str, size: int) -> None:
        """Hold `size` bytes more, or fewer if it is negative. Raises `Refusal` if that would be too many."""
        largest = settings.MAX_UPLOAD_BYTES
        if size > 0 and self._total + size > self._bodies * largest:
            code = ErrorCode.UPLOADS_FULL
            raise Refusal(code, _FULL.format(code.retry_after))
        if size > 0 and self._held[owner] + size > self._bodies_of_one * largest:
            raise Refusal(ErrorCode.TOO_MANY_UPLOADS, _FULL_OF_ONE.format(self._bodies_of_one * largest))
        self._held[owner] += size
        self._total += size
        if not self._held[owner]:
            del self._held[owner]


class Share:
    """What one body takes of the budget, within a context."""

    def __init__(self, budget: BodyBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resize(0)

    def resize(self, size: int) -> None:
        """Hold `size` bytes in all. Raises `Refusal` if that would be too many; then nothing changes."""
        self._budget.hold(self._owner, size - self._size)
        self._size = size
