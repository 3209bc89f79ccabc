"""The slots of requests in Django: how many each caller has, and who is next."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from generation.asgi.slots import SLOTS, SLOTS_OF_ONE, SLOTS_WITH_PICTURES, SLOTS_WITH_PICTURES_OF_ONE, Slots


class Requests:
    """Requests that hold their slots until they are ended. `inside` are the callers of those that have one, in order."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.inside: list[str] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, caller: str, count: int = 1, *, has_picture: bool = False) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._request(caller, has_picture)))
        await settled()

    async def end_one_of(self, caller: str) -> None:
        self._ends[caller].pop(0).set()
        self.inside.remove(caller)
        await settled()

    async def _request(self, caller: str, has_picture: bool) -> None:
        async with self.slots.slot(caller, has_picture=has_picture):
            end = asyncio.Event()
            self._ends.setdefault(caller, []).append(end)
            self.inside.append(caller)
            await end.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(scenario: Callable[[Requests], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        requests = Requests()
        await scenario(requests)
        for task in requests.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(all_of_it())


def test_a_caller_has_a_share_and_the_others_have_the_rest() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.send("alice", 20)
        assert requests.inside == ["alice"] * SLOTS_OF_ONE
        await requests.send("bob")
        await requests.send("carol", 20)
        assert requests.inside.count("bob") == 1
        assert len(requests.inside) == SLOTS

    run(scenario)


def test_requests_with_pictures_leave_slots_to_others() -> None:
    async def scenario(requests: Requests) -> None:
        for caller in ("alice", "bob", "carol"):
            await requests.send(caller, 20, has_picture=True)
        assert requests.inside.count("alice") == requests.inside.count("bob") == SLOTS_WITH_PICTURES_OF_ONE
        assert len(requests.inside) == SLOTS_WITH_PICTURES
        # Their own reads and those of others do not wait for them.
        await requests.send("alice")
        await requests.send("dan")
        assert requests.inside[SLOTS_WITH_PICTURES:] == ["alice", "dan"]

    run(scenario)


def test_callers_who_wait_are_admitted_in_turn() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.send("alice", 30, has_picture=True)
        await requests.send("bob", 2, has_picture=True)
        await requests.send("carol", 2, has_picture=True)
        await requests.send("dan", 2, has_picture=True)
        for _ in range(2):
            await requests.end_one_of("bob")
        assert requests.inside == ["alice", "alice", "carol", "dan"]
        for caller in ("carol", "dan", "alice"):
            await requests.end_one_of(caller)
        assert sorted(requests.inside) == ["alice", "alice", "carol", "dan"]
        await requests.send("eve", has_picture=True)
        await requests.end_one_of("carol")
        assert requests.inside[3] == "eve"

    run(scenario)


def test_a_request_that_is_given_up_takes_no_slot() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.send("alice", SLOTS_OF_ONE + 2)
        requests.tasks[-2].cancel()
        # It is found given up before it could say so.
        await requests.end_one_of("alice")
        await requests.send("alice")
        assert len(requests.inside) == SLOTS_OF_ONE
        for _ in range(SLOTS_OF_ONE):
            await requests.end_one_of("alice")
        await requests.send("bob", SLOTS_OF_ONE)
        await requests.send("carol", SLOTS_OF_ONE)
        assert len(requests.inside) == SLOTS

    run(scenario)
