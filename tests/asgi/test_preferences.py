"""The headers `Prefer` and `Cancel-After`."""

from datetime import timedelta

import pytest

from generation.asgi.preferences import Preferences, parse_cancel_after, parse_prefer
from generation.parameters import InvalidField


@pytest.mark.parametrize(
    ("header", "seconds"), [("90s", 90), ("2m", 120), ("1h", 3600), ("0.5s", 0.5), (" 5s ", 5), ("", None)]
)
def test_cancel_after_is_a_time_with_its_unit(header: str, seconds: float | None) -> None:
    assert parse_cancel_after(header) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("header", ["90", "s", "0s", "-1s", "1d", "8m8", "1e3s", "١s", "999999h", "9" * 400 + "s"])
def test_invalid_times_are_refused_with_an_example(header: str) -> None:
    with pytest.raises(InvalidField, match="such as 90s, 2m or 1h") as caught:
        parse_cancel_after(header)
    assert caught.value.item["loc"] == ["header", "Cancel-After"]


def test_preferences_are_read_from_among_others() -> None:
    assert parse_prefer("wait=5, Cancel-On-Disconnect") == Preferences(wait=5, cancel_on_disconnect=True)
    assert parse_prefer('respond-async; x=1, wait="10"') == Preferences(respond_async=True, wait=10)
    assert parse_prefer("wait=3, wait=9") == Preferences(wait=3)
    assert parse_prefer('note="later, respond-async, \\", thanks", wait=4') == Preferences(wait=4)
    assert parse_prefer('wait=5, ", cancel-on-disconnect') == Preferences(wait=5)
    assert parse_prefer("respond-asynchronously, wait=0, wait=2.5, cancel-on-disconnected") == Preferences()
