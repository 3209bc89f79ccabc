"""What is said and logged about a request for a host name that ALLOWED_HOSTS does not have.

It contains only what the client sent: the names that are allowed stay unknown to whoever asks with a name of theirs.
"""

import logging

from django.http import HttpRequest
from django.http.request import split_domain_port

logger = logging.getLogger(__name__)

_MAX_NAME_CHARACTERS = 253
"""The longest name of the DNS in text form (RFC 1035, section 2.3.4: 255 octets with the lengths of its labels)."""
_MAX_LOGGED = 100
_logged: set[str] = set()


def message(request: HttpRequest) -> str:
    """Return which name was asked and what to do; at the first request for a name, log it as well."""
    asked = request.META.get("HTTP_HOST", "")[: _MAX_NAME_CHARACTERS + 1]
    name = split_domain_port(asked)[0]
    if not name or len(asked) > _MAX_NAME_CHARACTERS:
        _log(asked, "It is not a valid host name, which has letters, digits, dots and hyphens only.")
        return (
            f"“{asked[:_MAX_NAME_CHARACTERS]}” is not a valid host name: it may have letters, digits, dots and hyphens. "
            "Ask for this site by another name."
        )
    _log(name, "If it is a name of this service, add it to the setting ALLOWED_HOSTS.")
    return (
        f"This site does not answer to the name “{name}”. If it should, whoever runs it adds the name to the setting "
        "ALLOWED_HOSTS."
    )


def _log(name: str, advice: str) -> None:
    # Bounded, since anybody can ask for any number of names. `%a` has no line breaks and no control characters.
    if name in _logged or len(_logged) >= _MAX_LOGGED:
        return
    _logged.add(name)
    logger.warning("a request for the unknown host name %a was refused. %s", name, advice)
