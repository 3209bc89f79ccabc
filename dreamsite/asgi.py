"""The ASGI application: Django, inside the long-poll middleware, inside those that count requests and read proxies' headers."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
django.setup(set_prefix=False)

from dreamsite.connections import requests_per_address  # noqa: E402  needs Django's settings
from dreamsite.forwarded_headers import ForwardedHeadersMiddleware, with_prefix  # noqa: E402
from generation.asgi.django_handler import DjangoHandler  # noqa: E402
from generation.asgi.long_poll import LongPollMiddleware  # noqa: E402
from generation.asgi.request_counter import request_counter  # noqa: E402
from generation.asgi.request_id_middleware import request_id_middleware  # noqa: E402
from generation.asgi.trace_middleware import trace_middleware  # noqa: E402

long_poll = LongPollMiddleware(with_prefix(DjangoHandler()))
traced = trace_middleware(request_counter(requests_per_address(long_poll)))
application = ForwardedHeadersMiddleware(request_id_middleware(traced))
