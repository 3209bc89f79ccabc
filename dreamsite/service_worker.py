"""`/service-worker.js`: browsers let a service worker act for addresses below its own alone, so it is not below `/static/`."""

from pathlib import Path

from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

NAME = "dreamsite/service_worker.js"


@cache_control(no_cache=True)
@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Answer with the script."""
    return HttpResponse(Path(str(finders.find(NAME))).read_bytes(), content_type="text/javascript; charset=utf-8")
