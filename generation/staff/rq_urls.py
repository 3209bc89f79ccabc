"""django-rq's own pages, for those who operate the service: their buttons empty queues and kill jobs."""

import django_rq.urls
from django.urls import URLPattern

from generation.staff.permissions import permission_required

_guarded = permission_required("generation.operate")

app_name = "django_rq"
urlpatterns = [
    URLPattern(page.pattern, _guarded(page.callback), page.default_args, page.name)
    for page in django_rq.urls.urlpatterns
]
