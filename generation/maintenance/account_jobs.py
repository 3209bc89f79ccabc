"""Chores: long jobs about whole accounts, done one after another beside the reaper, which they must not keep waiting."""

from accounts import throttle
from generation.maintenance import account_deletion, data_export
from generation.maintenance.data_export import Stopped


def work(stopped: Stopped) -> bool:
    """One round: a departure and an export, if any is due, and what is to be tidied up. Returns whether there was work.

    Raises Django's database errors; whatever was not done is done by the next round, of any process.
    """
    departure = account_deletion.claim()
    if departure is not None:
        account_deletion.carry_out(departure, stopped)
    export = None if stopped() else data_export.claim()
    if export is not None:
        data_export.make(export, stopped)
    data_export.tidy()
    account_deletion.tidy()
    throttle.forget()
    return departure is not None or export is not None
