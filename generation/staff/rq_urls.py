"""The pages of django-rq, for operators only, since they can empty queues and stop jobs."""

import django_rq.urls
from django.urls import URLPattern

from generation.staff.permissions import operators_only

app_name = "django_rq"
urlpatterns = [
    URLPattern(page.pattern, operators_only(page.callback), page.default_args, page.name)
    for page in django_rq.urls.urlpatterns
]
