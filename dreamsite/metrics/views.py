"""`GET /metrics`, for Prometheus."""

from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from dreamsite.metrics.collector import registry

_OFF = "Metrics are off; METRICS_TOKEN or METRICS_NETWORKS says who may read them."
_WRONG_TOKEN = "Send the token that METRICS_TOKEN has: Authorization: Bearer TOKEN."


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with all metrics whoever has `METRICS_TOKEN` or an address of `METRICS_NETWORKS`; if neither is set, with 404."""
    if not (settings.METRICS_TOKEN or settings.METRICS_NETWORKS):
        return _text(_OFF, 404)
    address = request.META.get("REMOTE_ADDR", "")
    if not (_has_token(request) or _is_allowed(address)):
        if settings.METRICS_TOKEN:
            return _text(_WRONG_TOKEN, 401, {"WWW-Authenticate": "Bearer"})
        return _text(f"Your address, {address or 'unknown'}, is in none of METRICS_NETWORKS.", 403)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def _has_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer" and bool(settings.METRICS_TOKEN)
    return is_bearer and constant_time_compare(token.strip(), settings.METRICS_TOKEN)


def _is_allowed(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        # That of a unix socket.
        return False
    # A socket for both versions sees clients of IPv4 so.
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ip_network(network) for network in settings.METRICS_NETWORKS)


def _text(text: str, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    response = HttpResponse(f"{text}\n", content_type="text/plain; charset=utf-8", status=status, headers=headers)
    # Django would log an error for each poll.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
