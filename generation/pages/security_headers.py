"""Headers of every page, the admin's too, that say what it may load and use, and that no other site may frame it."""

from collections.abc import Callable
from functools import cache
from urllib.parse import urlsplit

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse

_POLICY = "Content-Security-Policy"
_UNUSED_FEATURES = (
    *("accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation", "gyroscope", "hid"),
    *("magnetometer", "microphone", "midi", "payment", "publickey-credentials-get", "screen-wake-lock", "serial"),
    *("usb", "xr-spatial-tracking"),
)
_PERMISSIONS = ", ".join(f"{feature}=()" for feature in _UNUSED_FEATURES)


def security_headers_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Set the headers of HTML responses. A view that needs another policy sets it itself."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            if _POLICY not in response.headers:
                response.headers[_POLICY] = _policy()
            response.headers["Permissions-Policy"] = _PERMISSIONS
        return response

    return middleware


def allow_other_sites(response: HttpResponse) -> None:
    """Let the scripts of this page read from other sites, as far as those let them."""
    response.headers[_POLICY] = _policy(connections="'self' http: https: data:")


def allow_forms_to_lead_to_bucket(response: HttpResponse) -> None:
    """Let the answer to a form of this page redirect to a file in the bucket: browsers judge that by the page's policy."""
    bucket = f" {_bucket_origin()}" if settings.S3_BUCKET else ""
    response.headers[_POLICY] = _policy(forms=f"'self'{bucket}")


def _policy(connections: str = "'self'", forms: str = "'self'") -> str:
    """Return the policy of a page whose scripts read from `connections` and whose forms are sent to `forms`.

    Attributes `style` carry sizes of pictures.
    """
    bucket = f" {_bucket_origin()}" if settings.S3_BUCKET else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
        f"img-src 'self' data: blob:{bucket}; connect-src {connections}; manifest-src 'self'; "
        f"form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
    )


@cache
def _bucket_origin() -> str:
    """Return where browsers get the pictures from: scheme, host and port. Signing an address makes no connection."""
    address = urlsplit(default_storage.url("origin"))
    return f"{address.scheme}://{address.netloc}"
