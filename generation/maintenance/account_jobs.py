"""Long jobs about whole accounts. They run in a thread of their own, so that the reaper does not wait for them."""

from accounts import attempts, lockout, mail
from accounts.leased_jobs import ShouldStop
from accounts.models import AccountDeletion
from generation.maintenance import account_deletion, data_export


def run_all(should_stop: ShouldStop) -> bool:
    """Run at most one account deletion and one data export, and prune old rows. Returns whether a job ran.

    Raises Django's database errors. What was not done is done by the next round, of any process.
    """
    deletion: AccountDeletion | None = AccountDeletion.objects.claim()
    if deletion is not None:
        account_deletion.run(deletion, should_stop)
    export = None if should_stop() else data_export.claim()
    if export is not None:
        data_export.run(export, should_stop)
    data_export.prune()
    account_deletion.prune()
    lockout.prune()
    attempts.prune()
    mail.prune()
    return deletion is not None or export is not None
