"""Bearer tokens for the API."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts import security_log
from accounts.models import ApiToken, User


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`, the scheme in any case. `request.auth` is the `ApiToken`."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken]:
        """Return user and token. Raises `AuthenticationFailed` without a usable token, since the API always requires one."""
        scheme, _, raw = get_authorization_header(request).partition(b" ")
        token = ApiToken.objects.authenticate(raw.strip().decode("latin-1")) if scheme.lower() == b"bearer" else None
        if token is None:
            if raw:
                security_log.log("token.refuse", user=None)
            raise AuthenticationFailed("Invalid bearer token.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
