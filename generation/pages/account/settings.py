"""The settings of the user's account: theme, blurring of flagged pictures, the studio's first model, and notices by mail."""

from typing import Any

from django import forms
from django.conf import settings as django_settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import mail
from accounts.models import OutgoingMail, User
from accounts.requests import current_user
from generation.models import DiffusionModel


class SettingsForm(forms.ModelForm[User]):
    """The settings that users change themselves."""

    class Meta:
        model = User
        fields = ("blur_flagged", "tells_recipe", "theme", "default_model", *mail.SWITCHES.values())
        widgets = {"theme": forms.RadioSelect}
        labels = {
            "notify_of_tokens": "Tell me of each new API token",
            "notify_of_exports": "Tell me when an export of my data is ready",
            "notify_of_alerts": "Tell me what needs attention of operators, at most once an hour",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = DiffusionModel.objects.allowed_to(self.instance).filter(enabled=True).order_by("-is_default", "id")
        models = dict(rows.values_list("id", "is_default"))
        default = next((name for name, is_default in models.items() if is_default), None)
        default_label = f"the service’s default, now {default}" if default else "the service’s default"
        self.fields["default_model"] = forms.ChoiceField(
            choices=[("", default_label), *((name, name) for name in models)], required=False
        )
        for name in set(mail.SWITCHES.values()) - set(_offered_notices(self.instance)):
            del self.fields[name]
        # A model that is not available any more is no choice; `_unavailable_model` names it on the page.
        if self.instance.default_model not in models:
            self.initial["default_model"] = ""

    def notices(self) -> list[forms.BoundField]:
        """Return the switches of notices by mail that the user has."""
        return [self[name] for name in mail.SWITCHES.values() if name in self.fields]


class ThemeForm(forms.ModelForm[User]):
    class Meta:
        model = User
        fields = ("theme",)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """Show and save the user's settings."""
    user = current_user(request)
    form = SettingsForm(request.POST if request.method == "POST" else None, instance=user)
    if form.is_valid():
        User.objects.filter(pk=user.pk).update(**form.cleaned_data)
        messages.success(request, "Your settings were saved.")
        return redirect("settings")
    # An invalid form has changed the instance, from which the page takes its theme.
    user.refresh_from_db(fields=["theme", "blur_flagged"])
    return render(
        request,
        "accounts/settings.html",
        {"form": form, "unavailable_model": _unavailable_model(user, form), "sends_mail": mail.is_on()},
    )


@login_required
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Save the theme that was chosen with the switch in the header, or with the admin's."""
    form = ThemeForm(request.POST)
    if not form.is_valid():
        return HttpResponse("theme is auto, light or dark", status=400, content_type="text/plain")
    User.objects.filter(pk=current_user(request).pk).update(theme=form.cleaned_data["theme"])
    return HttpResponse(status=204)


def _offered_notices(user: User) -> list[str]:
    """Return the fields of the notices that the user would get."""
    if not mail.is_on() or not user.email:
        return []
    is_operator = user.is_staff and user.has_perm("generation.operate")
    return [
        field
        for kind, field in mail.SWITCHES.items()
        if kind in django_settings.EMAIL_NOTICES and (kind != OutgoingMail.Kind.ALERTS or is_operator)
    ]


def _unavailable_model(user: User, form: SettingsForm) -> str:
    """Return the model in the user's settings if it cannot be chosen any more, else an empty text."""
    return user.default_model if user.default_model and not form["default_model"].value() else ""
