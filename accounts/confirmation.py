"""Ask for the password again, in case somebody else uses an open session: before what would outlive that session."""

import time
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest

from accounts.requests import current_user

CONFIRMED_FOR = timedelta(minutes=15)
"""How long a password that was given counts, in its session."""

_SESSION_KEY = "password_confirmed"


def is_confirmed(request: HttpRequest) -> bool:
    """Return whether the password was given in this session a short time ago, to sign in or to confirm."""
    confirmed: float = request.session.get(_SESSION_KEY, 0)
    return 0 <= time.time() - confirmed < CONFIRMED_FOR.total_seconds()


def remember_sign_in(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    """Count a sign-in as a confirmation; the receiver of Django's signal `user_logged_in`."""
    _remember(request)


def _remember(request: HttpRequest) -> None:
    request.session[_SESSION_KEY] = time.time()


class ConfirmPasswordForm(forms.Form):
    """A form that asks for the user's password, unless it was confirmed a short time ago.

    Its subclasses add fields, or set `always` to ask in any case.
    """

    always = False
    password = forms.CharField(
        label="Your password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        if not self.always and is_confirmed(request):
            del self.fields["password"]

    def clean_password(self) -> str:
        """Check the password like a sign-in does, so that the lockout limits guessing here, too."""
        password: str = self.cleaned_data["password"]
        user = current_user(self.request)
        if authenticate(self.request, username=user.username, password=password) != user:
            raise forms.ValidationError("That is not your password.")
        _remember(self.request)
        return password

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        # If other fields are wrong, the page does not ask for the right password again.
        if not self.always and "password" in self.cleaned_data:
            del self.fields["password"]
        return cleaned
