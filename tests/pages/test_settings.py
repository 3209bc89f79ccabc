"""The settings page: theme, flagged pictures, default model."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.models import DiffusionModel
from tests.support.html import squeeze

PAGE = "/settings/"
THEME = "/settings/theme"


def test_it_works(client: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    client.force_login(alice)
    fields = {"theme": "dark", "default_model": tiny_edit.pk}
    answer = client.post(PAGE, fields, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    page = answer.content.decode()
    assert "Your settings were saved." in page
    assert '<html lang="en" data-theme="dark"' in page
    alice.refresh_from_db()
    assert (alice.theme, alice.blur_flagged, alice.default_model) == ("dark", False, tiny_edit.pk)
    client.post(PAGE, fields | {"blur_flagged": "on", "default_model": ""})
    alice.refresh_from_db()
    assert (alice.blur_flagged, alice.default_model) == (True, "")


def test_it_needs_a_sign_in(client: Client, alice: User) -> None:
    for path in (PAGE, THEME):
        assert client.post(path, {"theme": "dark"}).status_code == 302
    assert not User.objects.filter(theme="dark").exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"theme": "pink"}, "pink is not one of the available choices"),
        ({}, "This field is required"),
        ({"theme": "light", "default_model": "stabilityai/sd-turbo"}, "stabilityai/sd-turbo is not one of"),
    ],
)
def test_an_invalid_form_shows_errors_and_changes_nothing(
    client: Client, alice: User, tiny_edit: DiffusionModel, fields: dict[str, str], says: str
) -> None:
    client.force_login(alice)
    answer = client.post(PAGE, fields)
    assert says in answer.content.decode()
    assert 'data-theme="auto"' in answer.content.decode()
    stored = User.objects.get(pk=alice.pk)
    assert (stored.theme, stored.blur_flagged, stored.default_model) == ("auto", True, "")


def test_only_available_models_are_offered(client: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    User.objects.filter(pk=alice.pk).update(default_model="stabilityai/sd-turbo")
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert f'<option value="{tiny_edit.pk}">' in page
    assert '<option value="" selected>the service’s default, now dreamsite/tiny-edit</option>' in page
    assert "stabilityai/sd-turbo, which you chose before, is no longer available." in page


def test_the_theme_switch_saves_the_theme(client: Client, alice: User, bob: User) -> None:
    client.force_login(alice)
    assert client.post(THEME, {"theme": "dark"}).status_code == 204
    assert client.post(THEME, {"theme": "pink"}).status_code == 400
    assert client.get(THEME).status_code == 405
    assert set(User.objects.values_list("username", "theme")) == {("alice", "dark"), ("bob", "auto")}


def test_the_theme_is_on_every_page_and_in_the_admin(client: Client, charlie: User) -> None:
    User.objects.filter(pk=charlie.pk).update(theme="dark")
    assert b"data-theme" not in client.get(reverse("sign-in")).content.partition(b">")[0]
    client.force_login(charlie)
    for path in ("/tokens/", "/history/", "/nowhere"):
        assert b'<html lang="en" data-theme="dark"' in client.get(path, headers={"Accept": "text/html"}).content
    admin = squeeze(client.get("/admin/").content.decode())
    assert 'before_paint.js" data-account="dark">' in admin
    assert 'theme.js" data-save="/settings/theme">' in admin


def test_the_menu_links_to_the_settings_and_they_to_the_account(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert f'href="{PAGE}"' in client.get("/tokens/").content.decode()
    page = client.get(PAGE).content.decode()
    for name in ("password_change", "export", "delete-account"):
        assert f'href="{reverse(name)}"' in page


def test_it_takes_few_queries(client: Client, alice: User, django_assert_num_queries: Any) -> None:
    client.force_login(alice)
    with django_assert_num_queries(4):
        client.get(PAGE)


def test_a_model_reserved_for_others_does_not_exist(client: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    reserved = DiffusionModel.objects.create(id="somebody/secret", family="stable-diffusion", enabled=True)
    painters = Group.objects.create(name="painters")
    reserved.allowed_groups.add(painters)
    client.force_login(alice)
    assert reserved.pk not in client.get(PAGE).content.decode()
    client.post(PAGE, {"theme": "dark", "default_model": reserved.pk})
    assert User.objects.get(pk=alice.pk).default_model == ""
    alice.groups.add(painters)
    assert f'<option value="{reserved.pk}">' in client.get(PAGE).content.decode()
