"""What the admin shows of a person beside their account: use, limits, flags, tokens; and suspending them."""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from accounts import confirm_actions
from accounts.admin import AccountAdmin
from accounts.models import User
from generation.jobs.limits import user_limits
from generation.models import Generation, State, first_id
from generation.moderation import review, suspension

FIELDS = ("access", "made", "limits", "flags", "tokens")
MAX_TOKENS = 20


def _access(person: User) -> str:
    return "may sign in and use their tokens" if person.is_active else "suspended: neither sign-in nor token works"


def _made(person: User) -> SafeString:
    """Counts of their generations, with a link to them."""
    rows = Generation.objects.filter(user=person).order_by()
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today = rows.filter(pk__gte=first_id(midnight)).aggregate(count=Count("pk"), cost=Sum("cost"))
    now = rows.filter(state__in=(State.QUEUED, State.RUNNING)).aggregate(
        queued=Count("pk", Q(state=State.QUEUED)), running=Count("pk", Q(state=State.RUNNING))
    )
    address = reverse("admin:generation_generation_changelist") + "?" + urlencode({"user": person.get_username()})
    return format_html(
        '<a href="{}">{} in all</a>; today {}, which cost {}; {} waiting, {} running now',
        address,
        rows.count(),
        today["count"],
        f"{today['cost'] or 0:.3g}",
        now["queued"],
        now["running"],
    )


def _limits(person: User) -> str:
    """What holds for them, from their own fields or the settings."""
    holds = user_limits(person)
    told = (
        *(("running at once", holds.running), ("queued at once", holds.queued)),
        *(("per minute", holds.per_minute), ("cost per day", holds.daily_cost)),
    )
    return ", ".join(f"{'no limit' if limit is None else f'{limit:g}'} {name}" for name, limit in told)


def _flags(person: User) -> str:
    known = review.person_record(person)
    return (
        f"{known.flagged} generations flagged; pictures: {known.waiting} waiting for review, "
        f"{known.confirmed} confirmed, {known.safe} found safe"
    )


def _tokens(person: User) -> SafeString | str:
    """The newest tokens by name and beginning."""
    rows = [
        (reverse("admin:accounts_apitoken_change", args=[token.pk]), token.prefix, token.name, _state(token))
        for token in person.tokens.all()[:MAX_TOKENS]
    ]
    return format_html_join(SafeString("<br>"), '<a href="{}">{}…</a> {}, {}', rows) or "none"


def _suspend(model_admin: Any, request: HttpRequest, people: QuerySet[User]) -> HttpResponseBase | None:
    def deed(person: User) -> str:
        done = f"Suspended {person}" if person.is_active else f"{person} was suspended already"
        canceled = suspension.suspend(person, cast(User, request.user))
        return f"{done}; of their generations {canceled} {'was' if canceled == 1 else 'were'} canceled."

    says = (
        "Their tokens and sessions are refused from now on, and what they have in the queue is canceled. Pictures and "
        "tokens stay: lifting the suspension gives all of it back."
    )
    return _confirmed(model_admin, request, people, "suspend", "Suspend", says, deed)


def _lift(model_admin: Any, request: HttpRequest, people: QuerySet[User]) -> HttpResponseBase | None:
    def deed(person: User) -> str:
        lifted = suspension.lift(person, cast(User, request.user))
        return f"Let {person} in again." if lifted else f"Nothing to lift: {person} was not suspended."

    says = "They may sign in again, and their tokens that are neither revoked nor expired work again."
    return _confirmed(model_admin, request, people, "lift", "Lift the suspension", says, deed)


def _confirmed(
    model_admin: Any,
    request: HttpRequest,
    people: QuerySet[User],
    action: str,
    title: str,
    says: str,
    deed: Callable[[User], str],
) -> HttpResponseBase | None:
    """The page that asks, or once that is answered the deed for each person, which says what it did."""
    chosen = confirm_actions.selected_ids(request, people)
    if chosen is None:
        return None
    if not confirm_actions.is_confirmed(request):
        return confirm_actions.render(model_admin, request, chosen, action, title, says)
    for person in chosen:
        try:
            messages.success(request, deed(person))
        except suspension.SuspensionRefused as refused:
            messages.error(request, f"Nothing changed for {person}: {refused}.")
    return confirm_actions.redirect_back(request, chosen)


def _state(token: Any) -> str:
    if token.revoked:
        return f"revoked {timezone.localtime(token.revoked):%Y-%m-%d}"
    return "usable" if token.is_usable else "expired"


admin.site.unregister(User)


@admin.register(User)
class StaffUserAdmin(AccountAdmin):
    """A user's account with their generations, limits and flags, and the actions to suspend them."""

    actions = ("suspend", "lift")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj is None else (fieldsets[0], ("Use", {"fields": FIELDS}), *fieldsets[1:])

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *FIELDS)

    @admin.display
    def access(self, person: User) -> str:
        return _access(person)

    @admin.display(description="generations")
    def made(self, person: User) -> SafeString:
        return _made(person)

    @admin.display(description="limits")
    def limits(self, person: User) -> str:
        return _limits(person)

    @admin.display(description="flags")
    def flags(self, person: User) -> str:
        return _flags(person)

    @admin.display(description="tokens")
    def tokens(self, person: User) -> SafeString | str:
        return _tokens(person)

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.suspend_user"))

    @admin.action(description="Suspend: tokens dead at once, queued work canceled", permissions=["suspend"])
    def suspend(self, request: HttpRequest, people: QuerySet[User]) -> HttpResponseBase | None:
        return _suspend(self, request, people)

    @admin.action(description="Lift the suspension", permissions=["suspend"])
    def lift(self, request: HttpRequest, people: QuerySet[User]) -> HttpResponseBase | None:
        return _lift(self, request, people)
