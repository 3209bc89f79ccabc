"""The path below which browsers see the site, such as `/dream`.

It is the setting URL_PREFIX, or else what a trusted proxy says; `dreamsite.forwarded_headers` makes it Django's script prefix,
which `reverse` and `{% url %}` begin with.
"""

import re
from collections.abc import Callable

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse, parse_cookie
from django.urls import get_script_prefix

OWN_PATHS = {
    ".well-known",
    "accounts",
    "admin",
    "albums",
    "brand",
    "deleted",
    "docs",
    "generations",
    "health",
    "history",
    "image-to-image",
    "links",
    "loras",
    "manifest.webmanifest",
    "media",
    "metrics",
    "models",
    "openapi.json",
    "ready",
    "s",
    "service-worker.js",
    "settings",
    "sheets",
    "static",
    "studio",
    "tokens",
    "trash",
    "usage",
    "v1",
    "verify",
}
"""The first segments of the site's own paths. With one of them as a prefix, nobody could tell whether a path has it.

Named here, since the checks at each start read it and must not import every page; a test compares it with the routes.
"""

# The characters that never need an escape (RFC 3986, section 2.3), in segments that are not `.` and not `..`.
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}")


def is_valid(prefix: str) -> bool:
    """Return whether the site can be below this path."""
    return bool(_PREFIX.fullmatch(prefix)) and prefix.split("/")[1] not in OWN_PATHS


def cookie_path_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Keep the site's cookies apart from those of other sites of the same host, which may have the same names.

    They are set for the paths below the prefix only, and of several with one name that of the longest path counts: browsers
    send it first (RFC 6265, section 5.4), but Django takes the last.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        first_counts = ";".join(reversed(request.META.get("HTTP_COOKIE", "").split(";")))
        request.COOKIES = parse_cookie(first_counts)
        response = get_response(request)
        for cookie in response.cookies.values():
            cookie["path"] = get_script_prefix().rstrip("/") or "/"
        return response

    return middleware


class PrefixedStaticFilesStorage(StaticFilesStorage):
    """Static files below the prefix of the current request; Django itself would keep that of the first."""

    def url(self, name: str | None) -> str:
        return get_script_prefix().rstrip("/") + super().url(name)
