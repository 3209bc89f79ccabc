"""Pages that only Django's admin, Swagger UI and anonymous visitors have: none does what its policy refuses."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from playwright.sync_api import BrowserContext
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from tests.support.browser import needs_chromium, record_refusals
from tests.support.generations import make_generation
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def test_no_page_breaks_its_own_policy(
    context: BrowserContext, client: Client, alice: User, charlie: User, live_server: LiveServer, settings: Any
) -> None:
    settings.SIGN_UP = True
    page = context.new_page()
    refusals = record_refusals(page)
    page.goto(f"{live_server.url}/accounts/sign-up")
    page.goto(f"{live_server.url}/docs")
    page.locator(".opblock-summary").first.wait_for()
    # What the policy refuses is seen here.
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), { textContent: '1' }))")
    wait_until(lambda: page.evaluate("true") and refusals, "the report of what was refused")
    assert len(refusals) == 1, refusals
    refusals.clear()
    client.force_login(charlie)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    group = Group.objects.create(name="Friends")
    generation = make_generation(alice)
    for address in (
        *(f"accounts/user/{alice.pk}/change/", f"generation/generation/{generation.pk}/change/"),
        *("auth/group/", f"auth/group/{group.pk}/change/", f"auth/group/{group.pk}/delete/", "accounts/user/add/"),
        *(f"accounts/user/{alice.pk}/password/", f"accounts/user/{alice.pk}/delete/", "axes/accessattempt/"),
        *("generation/retentionrule/add/", "generation/modelalias/add/", "generation/lora/", "password_change/"),
        *(f"accounts/user/{alice.pk}/history/", f"generation/generation/{generation.pk}/history/", "auth/"),
    ):
        answer = page.goto(f"{live_server.url}/admin/{address}")
        assert answer
        assert answer.headers["content-security-policy"], address
        page.wait_for_load_state()
    assert not refusals, "\n".join(refusals)
