"""People, their tokens and the audit log in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import audit
from accounts.audit_admin import Audited
from accounts.models import ApiToken, User
from accounts.strict_lookups import StrictLookupsMixin


@admin.register(User)
class AccountAdmin(StrictLookupsMixin, Audited, UserAdmin[User]):
    fieldsets = (
        *(UserAdmin.fieldsets or ()),
        ("Limits", {"fields": ("max_running", "max_queued", "max_per_minute", "max_daily_cost")}),
    )

    list_display = ("username", "email", "is_active", "is_staff", "last_login")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        first, *others = super().get_fieldsets(request, obj)
        if not self.has_change_permission(request, obj):
            # Even the beginning of a hash is nobody's to read who cannot set another.
            first = (None, {"fields": ("username",)})
        # Who is active is changed by suspending alone, which cancels what they have in the queue.
        rest = [(title, {"fields": [name for name in told["fields"] if name != "is_active"]}) for title, told in others]
        return (first, *rest)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        answer = super().user_change_password(request, id, form_url)
        if request.method == "POST" and answer.status_code == 302 and (person := self.get_object(request, unquote(id))):
            audit.record(request.user, "user.password", person, None, None)
        return answer


admin.site.unregister(Group)


@admin.register(Group)
class AuditedGroupAdmin(Audited, GroupAdmin):
    """Who may do what is itself worth a line in the log."""


class Usable(admin.SimpleListFilter):
    title = "state"
    parameter_name = "usable"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Usable"), ("revoked", "Revoked"), ("expired", "Expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> QuerySet[ApiToken]:
        expired = Q(expires__lte=timezone.now())
        match self.value():
            case "yes":
                return queryset.exclude(expired).filter(revoked=None)
            case "revoked":
                return queryset.exclude(revoked=None)
            case "expired":
                return queryset.filter(expired, revoked=None)
            case _:
                return queryset


@admin.register(ApiToken)
class ApiTokenAdmin(StrictLookupsMixin, admin.ModelAdmin[ApiToken]):
    """Tokens are read and revoked here. They are not made here, since their text could not be shown."""

    list_display = ("prefix", "user", "name", "created", "last_used", "expires", "revoked", "usable")
    list_filter = (Usable,)
    list_select_related = ("user",)
    search_fields = ("user__username", "name", "prefix")
    search_help_text = "User, name or beginning of the token."
    fields = ("user", "name", "prefix", "created", "last_used", "expires", "revoked")
    actions = ("revoke",)

    @admin.display(boolean=True)
    def usable(self, token: ApiToken) -> bool:
        return token.is_usable

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
        usable = [token for token in tokens if token.revoked is None]
        for token in usable:
            token.revoke()
            self.log_change(request, token, "Revoked.")
            audit.record(request.user, "apitoken.revoke", token, {"revoked": None}, {"revoked": timezone.now()})
        messages.success(request, f"{len(usable)} token{'s' if len(usable) != 1 else ''} revoked.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The permission lets people revoke from the list; a single token is a page to read.
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Generations name the token that asked for them.
        return False
