"""Chores: long jobs about whole accounts, done one after another beside the reaper, which they must not keep waiting."""

from accounts import lockout
from generation.maintenance import account_deletion, data_export
from generation.maintenance.data_export import ShouldStop


def run_all(stopped: ShouldStop) -> bool:
    """One round: a departure and an export, if any is due, and what is to be tidied up. Returns whether there was work.

    Raises Django's database errors; whatever was not done is done by the next round, of any process.
    """
    departure = account_deletion.claim()
    if departure is not None:
        account_deletion.run(departure, stopped)
    export = None if stopped() else data_export.claim()
    if export is not None:
        data_export.run(export, stopped)
    data_export.prune()
    account_deletion.prune()
    lockout.prune()
    return departure is not None or export is not None
