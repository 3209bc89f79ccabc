"""Mail to staff about what needs attention."""

from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import mail
from accounts.models import OutgoingMail, User
from generation.staff.operations import dashboard
from generation.staff.permissions import OPERATE

CHECK_SECONDS = 300.0
"""The time between two looks; what passes sooner, such as the start of the workers, is not worth a mail."""

_CRITICAL_PAUSE = timedelta(hours=1)
_PAUSE = timedelta(days=1)
"""How long after a mail a person gets no other, if nothing is critical."""


def mail_alerts() -> None:
    """Note mails about the current alerts to all operators who want them and did not get one lately.

    Raises Django's database errors.
    """
    alerts = dashboard.current_alerts()
    if not alerts:
        return
    now = timezone.now()
    pause = _CRITICAL_PAUSE if any(alert.is_critical for alert in alerts) else _PAUSE
    is_due = Q(alerts_mailed=None) | Q(alerts_mailed__lte=now - pause)
    operators = User.objects.with_perm(OPERATE, backend="django.contrib.auth.backends.ModelBackend")
    for user in operators.filter(is_due, is_staff=True, notify_of_alerts=True).exclude(email=""):
        with transaction.atomic():
            # Of two processes, one.
            if User.objects.filter(is_due, pk=user.pk).update(alerts_mailed=now):
                mail.notify(OutgoingMail.Kind.ALERTS, user, alerts=[alert.text for alert in alerts])
