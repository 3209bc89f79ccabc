"""The ASGI application: the waiting layer around Django."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
django_application = get_asgi_application()

from generation.waiting import WaitingLayer  # noqa: E402  needs Django's settings

application = WaitingLayer(django_application)
