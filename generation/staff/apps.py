from typing import Any

from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class StaffConfig(SimpleAdminConfig):
    """Django's admin with the site of `generation.staff.site`.

    Its classes are loaded with the URLs, since workers, the reaper and most commands need none.
    """

    default_site = "generation.staff.site.StaffSite"

    def ready(self) -> None:
        register(check_dependencies, Tags.admin)
        register(_check_classes, Tags.admin)


def _check_classes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    autodiscover()
    return check_admin_app(app_configs, **kwargs)
