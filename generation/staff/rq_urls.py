"""django-rq's own pages, for operators only: their buttons empty queues and kill jobs."""

import django_rq.urls
from django.urls import URLPattern

from generation.staff.permissions import operators_only

app_name = "django_rq"
urlpatterns = [
    URLPattern(page.pattern, operators_only(page.callback), page.default_args, page.name)
    for page in django_rq.urls.urlpatterns
]
