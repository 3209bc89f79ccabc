"""What the site calls itself and looks like: SITE_NAME, SITE_LOGO and SITE_ACCENT on the pages, and the web app manifest."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import unpack
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from dreamsite import accent

MAX_LOGO_BYTES = 1_000_000
MIN_LOGO_PIXELS = 192
"""What browsers ask of the icon of an installed app."""

LOGO_RULE = f"must be a PNG of at least {MIN_LOGO_PIXELS} x {MIN_LOGO_PIXELS} pixels or an SVG, square and below 1 MB"

_PNG = b"\x89PNG\r\n\x1a\n"
_SVG_HEAD = 4096
"""Bytes within which an SVG's own element begins, after comments and the like."""

# An SVG that is opened by its address is a page. This one has neither scripts nor anything from elsewhere.
_LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


class InvalidLogo(Exception):
    """The file of SITE_LOGO is missing, or breaks `LOGO_RULE`."""


@dataclass(frozen=True)
class Logo:
    """A picture in place of the built-in logo. `sizes` is as in a manifest, such as `512x512`; an SVG has `any`."""

    content: bytes
    media_type: str
    sizes: str


@dataclass(frozen=True)
class Brand:
    """What templates need: the name, the address of the logo if it is not the built-in one, the type of the icon."""

    name: str
    logo: str
    icon_type: str
    has_accent: bool


@cache
def read_logo(path: str) -> Logo:
    """Read the file of a logo. Raises `InvalidLogo`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        raise InvalidLogo from error
    if len(content) > MAX_LOGO_BYTES:
        raise InvalidLogo
    if content.startswith(_PNG) and len(content) >= 24:
        width, height = unpack(">II", content[16:24])
        if width != height or width < MIN_LOGO_PIXELS:
            raise InvalidLogo
        return Logo(content, "image/png", f"{width}x{height}")
    if b"<svg" in content[:_SVG_HEAD]:
        return Logo(content, "image/svg+xml", "any")
    raise InvalidLogo


def brand() -> Brand:
    logo = read_logo(settings.SITE_LOGO) if settings.SITE_LOGO else None
    return Brand(
        name=settings.SITE_NAME,
        logo=reverse("logo") if logo else "",
        icon_type=logo.media_type if logo else "image/svg+xml",
        has_accent=bool(settings.SITE_ACCENT),
    )


@cache_control(public=True, max_age=3600)
@require_safe
def logo(request: HttpRequest) -> HttpResponse:
    """Answer with the file of SITE_LOGO. Raises Http404 without one."""
    if not settings.SITE_LOGO:
        raise Http404
    found = read_logo(settings.SITE_LOGO)
    return HttpResponse(found.content, content_type=found.media_type, headers={"Content-Security-Policy": _LOGO_POLICY})


@cache_control(public=True, max_age=3600)
@require_safe
def colours(request: HttpRequest) -> HttpResponse:
    """Answer with the style sheet of SITE_ACCENT, for after `theme.css`. Raises Http404 without one."""
    if not settings.SITE_ACCENT:
        raise Http404
    light, dark = accent.light_and_dark(settings.SITE_ACCENT)
    return HttpResponse(f":root {{\n  --accent: light-dark({light}, {dark});\n}}\n", content_type="text/css")


@cache_control(public=True, max_age=3600)
@require_safe
def manifest(request: HttpRequest) -> HttpResponse:
    """Answer with the web app manifest: https://www.w3.org/TR/appmanifest/."""
    home = reverse("home")
    content: dict[str, Any] = {
        "id": home,
        "name": settings.SITE_NAME,
        "short_name": settings.SITE_NAME,
        "start_url": home,
        "scope": home,
        "display": "standalone",
        # --bg and --panel of theme.css.
        "background_color": "#f6f6f5",
        "theme_color": "#ffffff",
        "icons": _icons(),
        # The service worker takes it: https://w3c.github.io/web-share-target/.
        "share_target": {
            "action": reverse("receive"),
            "method": "POST",
            "enctype": "multipart/form-data",
            "params": {"files": [{"name": "image", "accept": ["image/*"]}]},
        },
    }
    return JsonResponse(content, content_type="application/manifest+json")


def _icons() -> list[dict[str, str]]:
    if settings.SITE_LOGO:
        logo = read_logo(settings.SITE_LOGO)
        return [{"src": reverse("logo"), "type": logo.media_type, "sizes": logo.sizes, "purpose": "any"}]
    return [
        {"src": static("dreamsite/favicon.svg"), "type": "image/svg+xml", "sizes": "any", "purpose": "any"},
        {"src": static("dreamsite/icon-192.png"), "type": "image/png", "sizes": "192x192", "purpose": "any"},
        {"src": static("dreamsite/icon-512.png"), "type": "image/png", "sizes": "512x512", "purpose": "any"},
        {"src": static("dreamsite/icon-maskable.png"), "type": "image/png", "sizes": "512x512", "purpose": "maskable"},
    ]
