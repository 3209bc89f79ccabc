"""The pages for a lost password: one asks for a link, by mail, the other is where the link leads."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import PasswordResetForm, SetPasswordForm
from django.contrib.auth.views import PasswordResetConfirmView, PasswordResetView
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse_lazy

from accounts import attempts, lockout, mail, security_log
from accounts.forms import revoke_tokens_field
from accounts.models import ApiToken
from accounts.refused_attempts import too_many_attempts


class ForgottenPasswordForm(PasswordResetForm):
    """The address of an account. What is stored for it does not depend on whether there is one."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )

    def save(self, **_: Any) -> None:  # type: ignore[override]
        mail.request_password_reset(self.cleaned_data["email"])


class ForgottenPassword(PasswordResetView):
    """Ask for a link to set a new password. Nobody learns whether there is such an account, nor from the time it takes."""

    template_name = "accounts/forgotten_password.html"
    form_class = ForgottenPasswordForm
    success_url = reverse_lazy("sign-in")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not mail.is_on():
            raise Http404
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            attempts.count("forgotten-password", request.META.get("REMOTE_ADDR", ""), settings.PASSWORD_RESET_ATTEMPTS)
        except attempts.TooManyAttempts as error:
            return too_many_attempts(request, error, "too_many_password_resets.html")
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: PasswordResetForm) -> HttpResponse:
        security_log.log("password.forget")
        messages.success(
            self.request,
            f"If an account has the address {form.cleaned_data['email']}, a mail with a link is on its way. Nothing "
            "there after some minutes, not among the spam either? Ask an administrator for a new password.",
        )
        return super().form_valid(form)


class NewPasswordForm(SetPasswordForm):  # type: ignore[type-arg]
    """A new password, and whether the tokens end."""

    revoke_tokens = revoke_tokens_field("Untick it if you only forgot your password. Programs need new tokens then.")


class NewPassword(PasswordResetConfirmView):
    """Set a new password by a link that was mailed. It works once, and not after another change of the password."""

    template_name = "accounts/new_password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("sign-in")

    def form_valid(self, form: "SetPasswordForm[Any]") -> HttpResponse:
        response = super().form_valid(form)
        user = form.user
        security_log.log("password.reset", user=user.get_username())
        text = "Your password was changed, and you are signed out everywhere. Sign in with the new one."
        if form.cleaned_data["revoke_tokens"]:
            count = ApiToken.objects.revoke_all(user)
            text += f" {count} token{'' if count == 1 else 's'} revoked."
        messages.success(self.request, text)
        # Failures of others do not lock out who has just shown that the mailbox is theirs.
        lockout.remember_device(response, user)
        return response
