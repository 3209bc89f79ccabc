from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from axes.signals import user_locked_out
        from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

        from accounts import confirmation, security_log

        # The one place that all ways to sign in have in common.
        user_logged_in.connect(confirmation.remember_sign_in)
        user_logged_in.connect(security_log.log_sign_in)
        user_logged_out.connect(security_log.log_sign_out)
        user_login_failed.connect(security_log.log_wrong_password)
        user_locked_out.connect(security_log.log_lockout)


class SignInFailuresConfig(AxesConfig):
    """django-axes under the name of what its tables are."""

    verbose_name = "Sign-in failures"
