from django.apps import AppConfig


class DreamsiteConfig(AppConfig):
    """The project itself: its commands, checks and static files, and what watches its processes."""

    name = "dreamsite"

    def ready(self) -> None:
        from dreamsite import (
            checks,  # noqa: F401  registers the system checks
            observability,
        )

        observability.start()
