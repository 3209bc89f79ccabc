from django.contrib import admin
from django.urls import include, path, re_path

from dreamsite import brand, health
from dreamsite.metrics.views import metrics
from dreamsite.security_txt import security_txt
from dreamsite.service_worker import service_worker
from generation.pages.files import media

admin.autodiscover()
handler400 = "generation.api.errors.bad_request"
handler404 = "generation.api.errors.not_found"
handler500 = "generation.api.errors.server_error"
urlpatterns = [
    path("ready", health.ready, name="ready"),
    path("ready/request", health.seen_request, name="seen-request"),
    path("metrics", metrics, name="metrics"),
    path(".well-known/security.txt", security_txt, name="security-txt"),
    path("brand/logo", brand.logo, name="logo"),
    path("brand/colours.css", brand.colours, name="brand-colours"),
    path("manifest.webmanifest", brand.manifest, name="manifest"),
    path("service-worker.js", service_worker, name="service-worker"),
    path("admin/review/", include("generation.staff.urls")),
    path("admin/operations/", include("generation.staff.operations.urls")),
    path("admin/", admin.site.urls),
    re_path(r"^media/(?P<name>.+)$", media, name="media"),
    path("", include("generation.api.urls")),
    path("", include("generation.urls")),
    path("", include("accounts.urls")),
]
