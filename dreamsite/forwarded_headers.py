"""ASGI middleware for what proxies say: the client's address and scheme, and the path below which browsers see the site.

That path, the prefix, is the setting URL_PREFIX, or without that the header X-Forwarded-Prefix of a trusted proxy, which has
removed it from the path. Within `generation.asgi` paths are without it, as in Django's URLs; it is in `root_path`.
"""

from django.conf import settings
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dreamsite.url_prefix import is_valid
from generation.asgi.paths import merge_slashes
from generation.asgi.types import Application, Receive, Scope, Send, header


class ForwardedHeadersMiddleware:
    """The outermost ASGI middleware: the prefix, and from trusted proxies the client's address and scheme."""

    def __init__(self, application: Application) -> None:
        # Uvicorn's, whose place is here, since it replaces the address of the proxy.
        self._inner = ProxyHeadersMiddleware(application, settings.TRUSTED_PROXIES)  # type: ignore[arg-type]

    def is_trusted_proxy(self, address: str) -> bool:
        """Return whether this address is that of a proxy in TRUSTED_PROXIES."""
        return address in self._inner.trusted_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = _below_setting(scope) if settings.URL_PREFIX else self._below_header(scope)
        await self._inner(scope, receive, send)  # type: ignore[arg-type]

    def _below_header(self, scope: Scope) -> Scope:
        """Return the scope with the prefix that a trusted proxy names as `root_path`; empty without one, or if not valid."""
        proxy, _ = scope.get("client") or ("", 0)
        is_trusted = self.is_trusted_proxy(proxy)
        prefix = header(scope, b"x-forwarded-prefix").rstrip("/")
        return {**scope, "root_path": prefix if is_trusted and is_valid(prefix) else ""}


def _below_setting(scope: Scope) -> Scope:
    """Return the scope with URL_PREFIX as `root_path`, and a path without it, whether the proxy has removed it or not.

    A prefix of the header is not removed from paths: a client whose header a proxy passes on could reach what the proxy's own
    rules for paths deny.
    """
    prefix, path = settings.URL_PREFIX, merge_slashes(scope["path"])
    if f"{path}/".startswith(f"{prefix}/"):
        path = path.removeprefix(prefix) or "/"
    return {**scope, "root_path": prefix, "path": path}


def with_prefix(django: Application) -> Application:
    """Return Django's application for scopes whose path lacks `root_path`, which ASGI and Django expect at its beginning."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await django({**scope, "path": scope["root_path"] + scope["path"]}, receive, send)

    return application
