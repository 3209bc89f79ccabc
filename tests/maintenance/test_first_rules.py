"""The retention rules of a fresh service: uploads of failed and canceled requests go after a day."""

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation.maintenance import reaper
from generation.models import RetentionRule, State
from tests.support.generations import make_generation
from tests.support.html import squeeze

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis", "tiny_edit")]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_uploads_without_results_go_after_a_day_and_the_page_says_so(client: Client, alice: User, state: State) -> None:
    # An earlier test may have emptied the table.
    RetentionRule.objects.get_or_create(what="uploads", state=state, defaults={"days": 1, "enabled": True})
    now = timezone.now()
    old = make_generation(alice, state, created=now - timedelta(hours=25))
    young = make_generation(alice, state, created=now - timedelta(hours=23))
    succeeded = make_generation(alice, created=now - timedelta(hours=25))
    client.force_login(alice)
    page = squeeze(client.get(f"/history/{old.pk}/").content.decode())
    expiry = timezone.localtime(old.created + timedelta(days=1))
    assert f'kept until<time datetime="{expiry.isoformat()}">' in page
    reaper.reap()
    for generation in (old, young, succeeded):
        generation.refresh_from_db()
    assert (bool(old.input), bool(young.input), bool(succeeded.input)) == (False, True, True)
    assert not default_storage.exists(f"test/{old.pk}.webp")
    page = client.get(f"/history/{old.pk}/").content.decode()
    assert "removed; to make another, send it again" in page
    assert "kept until" not in page
    assert "kept until" not in client.get(f"/history/{succeeded.pk}/").content.decode()
    form = client.get(f"/?from={old.pk}&mode=exact").content.decode()
    assert "The picture of that generation was removed; send it again" in form
