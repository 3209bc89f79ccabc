"""For whom requests count, and how many each caller may send."""

import pytest
from pytest_django import Settings

from accounts.models import User
from generation.asgi.callers import PICTURES_FACTOR, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND, Callers, Rates
from generation.asgi.types import Scope
from generation.jobs.limits import OverLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(clock: Clock, settings: Settings) -> Callers:
    settings.LIMITS = True
    return Callers(clock)


def scope(
    path: str = "/generations", method: str = "GET", token: str = "", session: str = "", address: str = "192.0.2.1"
) -> Scope:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    if session:
        headers.append((b"cookie", f"sessionid={session}".encode()))
    return {"type": "http", "method": method, "path": path, "client": (address, 4711), "headers": headers}


def send(callers: Callers, request: Scope, user: User | None = None) -> str:
    """Send a request, which a view finds to be this user's, and return for whom it counted. Raises `OverLimit`."""
    caller = callers.caller(request)
    callers.count(request, caller)
    key = caller.key
    if user:
        caller.identify(user)
    callers.learn(caller)
    return key


def test_a_bucket_fills_up_again(clock: Clock) -> None:
    rates = Rates(clock)
    assert [rates.take("a", 3, 0.5) for _ in range(4)] == [0, 0, 0, 2]
    assert rates.take("b", 3, 0.5) == 0
    clock.now += 1.9
    assert rates.take("a", 3, 0.5) == 1
    clock.now += 0.1
    assert [rates.take("a", 3, 0.5) for _ in range(2)] == [0, 2]
    clock.now += 1000
    assert [rates.take("a", 3, 0.5) for _ in range(4)] == [0, 0, 0, 2]


def test_full_buckets_are_forgotten(clock: Clock) -> None:
    rates = Rates(clock)
    for number in range(30_000):
        rates.take(f"address {number}", 3, 0.5)
        clock.now += 0.01
    assert len(rates._full_at) < 10_100


def test_a_request_counts_for_its_user_once_that_is_known(callers: Callers, alice: User, bob: User) -> None:
    assert send(callers, scope(token="one"), alice) == "address 192.0.2.1"
    assert send(callers, scope(token="one", address="192.0.2.2")) == f"user {alice.pk}"
    # A user has one share, with any number of tokens and sessions.
    send(callers, scope("/history/", session="two"), alice)
    assert send(callers, scope("/history/", session="two")) == f"user {alice.pk}"
    assert send(callers, scope("/history/", session="three", token="one")) == "address 192.0.2.1"
    assert send(callers, scope(token="guessed")) == "address 192.0.2.1"
    send(callers, scope(token="bobs"), bob)
    assert send(callers, scope(token="bobs")) == f"user {bob.pk}"


def test_the_addresses_of_a_network_count_together(callers: Callers) -> None:
    assert send(callers, scope(address="2001:db8::1")) == send(callers, scope(address="2001:db8::ffff:2"))


def test_who_sends_too_much_is_told_when_to_go_on(callers: Callers, clock: Clock) -> None:
    for _ in range(REQUESTS_AT_ONCE):
        send(callers, scope())
    with pytest.raises(OverLimit, match=f"more than {REQUESTS_PER_SECOND} requests a second; try again in 1 second"):
        send(callers, scope())
    send(callers, scope(address="192.0.2.2"))
    clock.now += 1
    send(callers, scope())


def test_requests_with_pictures_count_whatever_becomes_of_them(
    callers: Callers, clock: Clock, alice: User, settings: Settings
) -> None:
    settings.USER_MAX_PER_MINUTE = 3
    alice.max_per_minute = 5
    submission = scope("/image-to-image", "POST", token="one")
    send(callers, submission, alice)
    for _ in range(5 * PICTURES_FACTOR):
        send(callers, submission, alice)
    with pytest.raises(OverLimit, match=r"10 requests with pictures .* try again in 6 seconds") as refused:
        send(callers, submission)
    assert refused.value.headers["Retry-After"] == "6"
    send(callers, scope(token="one"))
    clock.now += 6
    send(callers, submission)
    # Of the studio, too, and of who is not known.
    for _ in range(3 * PICTURES_FACTOR):
        send(callers, scope("/", "POST", address="192.0.2.2"))
    with pytest.raises(OverLimit):
        send(callers, scope("/", "POST", address="192.0.2.2"))


def test_users_and_services_without_limits_have_none(callers: Callers, alice: User, settings: Settings) -> None:
    alice.max_per_minute = 0
    submission = scope("/v1/images/edits", "POST", token="one")
    for _ in range(200):
        send(callers, submission, alice)
    settings.LIMITS = False
    for _ in range(REQUESTS_AT_ONCE + 200):
        send(callers, scope())
