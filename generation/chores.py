"""Chores: long jobs about whole accounts, done one after another beside the reaper, which they must not keep waiting."""

from accounts import throttle
from generation import departures, exports
from generation.exports import Stopped


def work(stopped: Stopped) -> bool:
    """One round: a departure and an export, if any is due, and what is to be tidied up. Returns whether there was work.

    Raises Django's database errors; whatever was not done is done by the next round, of any process.
    """
    departure = departures.claim()
    if departure is not None:
        departures.carry_out(departure, stopped)
    export = None if stopped() else exports.claim()
    if export is not None:
        exports.make(export, stopped)
    exports.tidy()
    departures.tidy()
    throttle.forget()
    return departure is not None or export is not None
