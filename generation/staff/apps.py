from django.contrib.admin.apps import AdminConfig


class StaffConfig(AdminConfig):
    """Django's admin with the site of `generation.staff.site`."""

    default_site = "generation.staff.site.StaffSite"
