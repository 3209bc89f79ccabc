from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from accounts import confirmation

        # The one place that all ways to sign in have in common.
        user_logged_in.connect(confirmation.remember_sign_in)


class SignInFailuresConfig(AxesConfig):
    """django-axes under the name of what its tables are."""

    verbose_name = "Sign-in failures"
