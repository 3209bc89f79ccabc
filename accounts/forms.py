"""The forms of the account pages."""

from datetime import datetime, timedelta

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.utils import timezone

from accounts.models import ApiToken, User


class SignUpForm(UserCreationForm[User]):
    class Meta:
        model = User
        fields = ("username",)


class NewTokenForm(forms.Form):
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

    def expires(self) -> datetime | None:
        """Return when the token expires; None if never. Call it on a valid form."""
        days = self.cleaned_data["days"]
        return timezone.now() + timedelta(days=days) if days else None
