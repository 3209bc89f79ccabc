"""The settings of the user's account: theme, blurring of flagged pictures, and the studio's first model."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from accounts.requests import current_user
from generation.models import DiffusionModel


class SettingsForm(forms.ModelForm[User]):
    """The settings that users change themselves."""

    class Meta:
        model = User
        fields = ("blur_flagged", "theme", "default_model")
        widgets = {"theme": forms.RadioSelect}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = DiffusionModel.objects.allowed_to(self.instance).filter(enabled=True).order_by("-is_default", "id")
        models = dict(rows.values_list("id", "is_default"))
        default = next((name for name, is_default in models.items() if is_default), None)
        default_label = f"the service’s default, now {default}" if default else "the service’s default"
        self.fields["default_model"] = forms.ChoiceField(
            choices=[("", default_label), *((name, name) for name in models)], required=False
        )
        # A model that is not available any more is no choice; `_unavailable_model` names it on the page.
        if self.instance.default_model not in models:
            self.initial["default_model"] = ""


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
        request, "accounts/settings.html", {"form": form, "unavailable_model": _unavailable_model(user, form)}
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


def _unavailable_model(user: User, form: SettingsForm) -> str:
    """Return the model in the user's settings if it cannot be chosen any more, else an empty text."""
    return user.default_model if user.default_model and not form["default_model"].value() else ""
