"""Users in the admin: usage, limits, flags and tokens beside the account, and suspension."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from accounts.admin import AccountAdmin
from accounts.admin_tools import confirm_actions
from accounts.admin_tools.confirm_actions import Action
from accounts.models import ApiToken, User
from accounts.refusals import StaffRefusal
from accounts.requests import current_user
from generation.days import start_of_day
from generation.jobs.limits import stored_bytes, user_limits
from generation.models import Generation, State, first_id
from generation.moderation import review, suspension

_USAGE_FIELDS = ("access", "generations", "limits", "flags", "tokens")
_MAX_TOKENS = 20

admin.site.unregister(User)


@admin.register(User)
class StaffUserAdmin(AccountAdmin):
    """A user's account with their generations, limits and flags, and the actions to suspend them."""

    actions = ("suspend", "lift")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj is None else (fieldsets[0], ("Usage", {"fields": _USAGE_FIELDS}), *fieldsets[1:])

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *_USAGE_FIELDS)

    @admin.display
    def access(self, user: User) -> str:
        return "may sign in and use their tokens" if user.is_active else "suspended: neither sign-in nor token works"

    @admin.display(description="generations")
    def generations(self, user: User) -> SafeString:
        """Counts of the user's generations, with a link to them."""
        rows = Generation.objects.filter(user=user).order_by()
        midnight = start_of_day(timezone.localdate())
        today = rows.filter(pk__gte=first_id(midnight)).aggregate(count=Count("pk"), cost=Sum("cost"))
        current = rows.filter(state__in=(State.QUEUED, State.RUNNING)).aggregate(
            queued=Count("pk", Q(state=State.QUEUED)), running=Count("pk", Q(state=State.RUNNING))
        )
        return format_html(
            '<a href="{}?{}">{} in all</a>; {} today at a cost of {}; {} queued, {} running',
            reverse("admin:generation_generation_changelist"),
            urlencode({"user": user.get_username()}),
            rows.count(),
            today["count"],
            f"{today['cost'] or 0:.3g}",
            current["queued"],
            current["running"],
        )

    @admin.display(description="limits")
    def limits(self, user: User) -> str:
        """The limits in force, from the user's own fields or the settings."""
        limits = user_limits(user)
        named_limits = (
            ("running at once", limits.running),
            ("queued at once", limits.queued),
            ("per minute", limits.per_minute),
            ("cost per day", limits.daily_cost),
        )
        numbers = [f"{'no limit' if limit is None else f'{limit:g}'} {name}" for name, limit in named_limits]
        most = "no limit" if limits.stored_bytes is None else filesizeformat(limits.stored_bytes)
        return ", ".join([*numbers, f"{filesizeformat(stored_bytes(user))} stored of {most}"])

    @admin.display(description="flags")
    def flags(self, user: User) -> str:
        record = review.user_record(user)
        return (
            f"{record.flagged} generations flagged; pictures: {record.waiting} waiting for review, "
            f"{record.confirmed} confirmed, {record.safe} safe"
        )

    @admin.display(description="tokens")
    def tokens(self, user: User) -> SafeString | str:
        """The newest tokens by name and prefix."""
        rows = [
            (reverse("admin:accounts_apitoken_change", args=[token.pk]), token.prefix, token.name, _token_state(token))
            for token in user.tokens.all()[:_MAX_TOKENS]
        ]
        return format_html_join(SafeString("<br>"), '<a href="{}">{}…</a> {}, {}', rows) or "none"

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.suspend_user"))

    @admin.action(description="Suspend: refuse their tokens, cancel their queued work", permissions=["suspend"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        def apply(user: User) -> str:
            text = f"Suspended {user}" if user.is_active else f"{user} was suspended already"
            try:
                canceled = suspension.suspend(user, current_user(request))
            except suspension.SuspensionRefused as refusal:
                raise StaffRefusal(f"{user} was not suspended: {refusal.message}.") from refusal
            return f"{text}; {canceled} generation{'' if canceled == 1 else 's'} canceled."

        description = (
            "Their tokens and sessions are refused from now on, and their queued and running generations are canceled. "
            "Pictures and tokens are kept: lifting the suspension restores access."
        )
        return confirm_actions.run(self, request, queryset, Action("suspend", "Suspend", description, apply))

    @admin.action(description="Lift the suspension", permissions=["suspend"])
    def lift(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        def apply(user: User) -> str:
            try:
                lifted = suspension.lift(user, current_user(request))
            except suspension.SuspensionRefused as refusal:
                raise StaffRefusal(f"The suspension of {user} was not lifted: {refusal.message}.") from refusal
            return f"Lifted the suspension of {user}." if lifted else f"{user} was not suspended."

        description = "They may sign in again, and their tokens work again unless revoked or expired."
        return confirm_actions.run(self, request, queryset, Action("lift", "Lift the suspension", description, apply))


def _token_state(token: ApiToken) -> str:
    if token.revoked:
        return f"revoked {timezone.localtime(token.revoked):%Y-%m-%d}"
    return "usable" if token.is_usable else "expired"
