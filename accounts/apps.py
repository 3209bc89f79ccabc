from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"


class SignInFailuresConfig(AxesConfig):
    """django-axes under the name of what its tables are."""

    verbose_name = "Sign-in failures"
