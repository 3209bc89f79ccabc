"""Users, groups, API tokens and the audit log in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html

from accounts import audit
from accounts.admin_tools.audited import AuditedAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from accounts.audit_admin import AuditEntryAdmin
from accounts.models import ApiToken, User

__all__ = ["AccountAdmin", "ApiTokenAdmin", "AuditEntryAdmin", "AuditedGroupAdmin"]

_FIELDS_OF_RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


@admin.register(User)
class AccountAdmin(StrictLookupsMixin, AuditedAdminMixin, UserAdmin[User]):
    """User accounts with their limits; `generation.staff.users` extends the page."""

    # Limits are set often, permissions seldom: these are the third of Django's.
    fieldsets = (
        *(UserAdmin.fieldsets or ())[:2],
        ("Limits", {"fields": ("max_running", "max_queued", "max_per_minute", "max_daily_cost", "max_bytes")}),
        *(UserAdmin.fieldsets or ())[2:],
    )

    list_display = ("username", "email", "state", "role", "last_login")

    @admin.display(ordering="is_active")
    def state(self, user: User) -> str:
        return "active" if user.is_active else format_html('<span class="tag">{}</span>', "suspended")

    @admin.display(ordering="is_staff", empty_value="")
    def role(self, user: User) -> str:
        return "superuser" if user.is_superuser else "staff" if user.is_staff else ""

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        first, *others = super().get_fieldsets(request, obj)
        if not self.has_change_permission(request, obj):
            # Without the permission to set a password, not even a part of its hash is shown.
            first = (None, {"fields": ("username",)})
        # Only a suspension changes `is_active`, since it also cancels the user's generations.
        others = [
            (title, {"fields": [name for name in options["fields"] if name != "is_active"]})
            for title, options in others
        ]
        return (first, *others)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, *_FIELDS_OF_RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_administer(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_administer(request, obj) and super().has_delete_permission(request, obj)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        if unquote(id) == str(request.user.pk):
            # That page asks for the old password: an open session alone must not take the account.
            return redirect("password_change")
        response = super().user_change_password(request, id, form_url)
        is_changed = request.method == "POST" and response.status_code == 302
        if is_changed and (user := self.get_object(request, unquote(id))):
            audit.record(request.user, "user.password", user, None, None)
        return response


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _may_administer(request: HttpRequest, user: User | None) -> bool:
    """Return whether the request may change this account. Only superusers change those of staff: others would gain rights."""
    return _is_superuser(request) or user is None or not (user.is_staff or user.is_superuser)


admin.site.unregister(Group)


@admin.register(Group)
class AuditedGroupAdmin(AuditedAdminMixin, GroupAdmin):
    """Django's groups; changes of their permissions are in the audit log."""


class TokenStateFilter(admin.SimpleListFilter):
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
    """API tokens, to read and revoke. They cannot be added here, since the token could not be shown."""

    list_display = ("prefix", "user", "name", "created", "last_used", "expires", "revoked", "state")
    list_filter = (TokenStateFilter,)
    list_select_related = ("user",)
    search_fields = ("user__username", "name", "prefix")
    search_help_text = "User, name or beginning of the token."
    fields = ("user", "name", "prefix", "created", "last_used", "expires", "revoked")
    actions = ("revoke",)

    @admin.display
    def state(self, token: ApiToken) -> str:
        return "revoked" if token.revoked else "usable" if token.is_usable else "expired"

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        tokens = list(queryset.filter(revoked=None))
        for token in tokens:
            token.revoke()
            self.log_change(request, token, "Revoked.")
            audit.record(request.user, "apitoken.revoke", token, {"revoked": None}, {"revoked": timezone.now()})
        messages.success(request, f"{len(tokens)} token{'s' if len(tokens) != 1 else ''} revoked.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The permission is for revoking from the list; the page of a token is read-only.
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Generations refer to the token of their request.
        return False
