"""The forms of the account pages."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm, SetPasswordForm
from django.utils import timezone

from accounts import mail, usernames
from accounts.confirmation import ConfirmPasswordForm
from accounts.models import ApiToken, User


def revoke_tokens_field(help_text: str) -> forms.BooleanField:
    return forms.BooleanField(label="Revoke my API tokens, too", initial=True, required=False, help_text=help_text)


class SignUpForm(BaseUserCreationForm[User]):
    """A name and a password; with mail an address, too, which is the account's once it is confirmed."""

    address = forms.EmailField(
        label="E-mail address (optional)",
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text="Without one, only an administrator can help if you lose your password.",
    )

    class Meta:
        model = User
        fields = ("username",)
        help_texts = {"username": "At most 150 letters of one script, digits and @ . + - _"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not mail.is_on():
            del self.fields["address"]

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        usernames.check_choice(name)
        return name


class ChangePasswordForm(ConfirmPasswordForm, SetPasswordForm):  # type: ignore[type-arg]
    """The old password, a new one, and whether the tokens end."""

    always = True
    revoke_tokens = revoke_tokens_field("Untick it if only you know the old password. Programs need new tokens then.")
    field_order = ("password", "new_password1", "new_password2", "revoke_tokens")


class NewTokenForm(ConfirmPasswordForm):
    """A new token's name and expiry."""

    name = forms.CharField(
        max_length=ApiToken._meta.get_field("name").max_length,
        help_text="The program or computer that uses it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "laptop"}),
    )
    days = forms.TypedChoiceField(
        label="Expires",
        choices=[
            ("", "never"),
            ("7", "after 7 days"),
            ("30", "after 30 days"),
            ("90", "after 90 days"),
            ("365", "after a year"),
        ],
        coerce=int,
        empty_value=None,
        required=False,
    )

    field_order = ("name", "days", "password")

    def expires(self) -> datetime | None:
        """Return when the token expires; None if never. Call it on a valid form."""
        days = self.cleaned_data["days"]
        return timezone.now() + timedelta(days=days) if days else None
