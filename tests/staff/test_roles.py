"""Permissions in the admin: every page for anonymous visitors, users, staff, reviewers, operators and superusers."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from accounts import audit
from accounts.models import ApiToken, AuditEntry, User
from generation.models import DiffusionModel, Generation, Lora, ModelAlias
from generation.models.review import Review, ReviewDecision
from generation.staff import urls as review_urls
from generation.staff.operations import urls as operations_urls
from tests.support.generations import make_generation
from tests.support.roles import (
    OPERATORS,
    REVIEWERS,
    staff,
)

COMMON = {"index", "login", "logout", "password_change", "password_change_done", "autocomplete", "jsi18n", "app_list"}
"""Pages that all staff may open, or that redirect. `app_list` is empty without a permission, and then 404."""

ALLOWED = {
    REVIEWERS: {
        *("generation_generation_changelist", "generation_generation_change", "generation_generation_history"),
        *("generation_reviewdecision_changelist", "generation_reviewdecision_change"),
        "generation_reviewdecision_history",
        *("review", "review-picture", "review-batch", "review-metrics"),
    },
    OPERATORS: {
        *("generation_generation_changelist", "generation_generation_change", "generation_generation_history"),
        *(f"generation_{model}_{page}" for model in ("diffusionmodel", "lora") for page in ("changelist", "add")),
        *(f"generation_{model}_{page}" for model in ("diffusionmodel", "lora") for page in ("change", "history")),
        "generation_diffusionmodel_family",
        *(f"accounts_{model}_{page}" for model in ("user", "apitoken") for page in ("changelist", "change", "history")),
        *(f"accounts_auditentry_{page}" for page in ("changelist", "change", "history", "export")),
        *(f"generation_retentionrule_{page}" for page in ("changelist", "add")),
        *(f"generation_modelalias_{page}" for page in ("changelist", "add", "change", "delete", "history")),
        *("operations", "operations-live", "operations-retention", "operations-canaries"),
    },
}


def addresses() -> list[tuple[str, str]]:
    """Return name and address of every page of the admin, with a row that exists."""
    named_addresses = []

    def walk(patterns: Any, names: str) -> None:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, names)
            elif isinstance(pattern, URLPattern) and pattern.name and (address := _address(pattern, names)):
                named_addresses.append((pattern.name, address))

    # The project's addresses register the admin's classes when they are first read.
    reverse("admin:index")
    walk(admin.site.get_urls(), "admin:")
    walk(review_urls.urlpatterns, "")
    walk(operations_urls.urlpatterns, "")
    return named_addresses


def _address(pattern: URLPattern, names: str) -> str | None:
    converters = list(pattern.pattern.converters)
    name = str(pattern.name)
    if not converters and not pattern.pattern.regex.groups:
        return reverse(names + name)
    rows: dict[str, Any] = {
        "generation": Generation,
        "diffusionmodel": DiffusionModel,
        "lora": Lora,
        "modelalias": ModelAlias,
        "reviewdecision": ReviewDecision,
        "user": User,
        "apitoken": ApiToken,
        "auditentry": AuditEntry,
        "group": Group,
    }
    if name in ("review-decide", "review-picture"):
        image = Generation.objects.latest("pk").images.get()
        return reverse(name, args=[image.pk, *(["result"] if name == "review-picture" else [])])
    if name == "auth_user_password_change":
        return reverse(names + name, args=[User.objects.latest("pk").pk])
    model = name.split("_")[1] if name.count("_") == 2 else ""
    return reverse(names + name, args=[rows[model].objects.first().pk]) if model in rows else None


@pytest.fixture
def rows_of_each_model(alice: User, charlie: User) -> None:
    """One row of each model."""
    ApiToken.objects.issue(alice, "laptop")
    Lora.objects.create(id="someone/ink")
    image = make_generation(alice, flagged=[0]).images.get()
    audit.record(charlie, "pool.pause", "default", None, None)
    ReviewDecision.objects.create(image=image, generation=image.generation_id, index=0, after=Review.SAFE)


def statuses_of(client: Client) -> dict[str, int]:
    return {name: client.get(address).status_code for name, address in addresses()}


def test_every_page_is_visited(rows_of_each_model: None) -> None:
    names = {name for name, _ in addresses()}
    assert names >= ALLOWED[REVIEWERS] | ALLOWED[OPERATORS]
    assert len(names) > 40


def test_visitors_and_users_are_sent_to_sign_in(client: Client, rows_of_each_model: None, alice: User) -> None:
    for user in (None, alice):
        if user is not None:
            client.force_login(user)
        for name, address in addresses():
            answer = client.get(address)
            assert name in {"login", "logout", "jsi18n"} or (answer.status_code, answer["Location"][:13]) == (
                302,
                "/admin/login/",
            ), name


def test_plain_staff_see_an_empty_admin(client: Client, rows_of_each_model: None) -> None:
    client.force_login(staff("dora"))
    assert {name for name, status in statuses_of(client).items() if status == 200} <= COMMON


@pytest.mark.parametrize("role", [REVIEWERS, OPERATORS])
def test_a_role_opens_its_own_pages_only(client: Client, rows_of_each_model: None, role: str) -> None:
    client.force_login(staff("dora", role))
    for name, status in statuses_of(client).items():
        if name in ALLOWED[role]:
            assert status == 200, name
        elif name == "auth_user_password_change":
            # Their own: it leads to the page that asks for the old password.
            assert status == 302
        elif name not in COMMON:
            assert status in (403, 404, 405), name


def test_superusers_open_everything(client: Client, rows_of_each_model: None, charlie: User) -> None:
    client.force_login(charlie)
    statuses = statuses_of(client)
    forbidden = {name for name, status in statuses.items() if status == 403} - {"autocomplete"}
    # Nobody adds or deletes rows that the service writes, or deletes the default model.
    assert all(name.endswith(("_add", "_delete")) for name in forbidden), forbidden
    assert statuses["review"] == statuses["accounts_user_changelist"] == 200


def test_a_reviewer_sees_no_tokens_and_changes_no_models(client: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "my secret laptop")
    generation = make_generation(alice, token=token)
    client.force_login(staff("dora", REVIEWERS))
    pages = [client.get(reverse("admin:generation_generation_change", args=[generation.pk])).content.decode()]
    pages += [client.get(address).content.decode() for address in ("/admin/", "/admin/generation/generation/")]
    for page in pages:
        assert "my secret laptop" not in page
        assert token.prefix not in page
        assert "/diffusionmodel/" not in page
    change = {"action": "cancel", "_selected_action": str(generation.pk)}
    client.post("/admin/generation/generation/", change)
    generation.refresh_from_db()
    assert generation.state == "succeeded"


def test_an_operator_cannot_review(client: Client, alice: User) -> None:
    image = make_generation(alice, flagged=[0]).images.get()
    client.force_login(staff("dora", OPERATORS))
    for name, arguments in (
        ("review-decide", [image.pk]),
        ("review-undo", []),
        ("review-status", []),
        ("review-batch-decide", []),
        ("review-next", []),
        ("review-release", []),
    ):
        assert client.post(reverse(name, args=arguments), {"decision": "safe"}).status_code == 403
    assert 'href="/admin/review/' not in client.get("/admin/").content.decode()
    assert not ReviewDecision.objects.exists()


@pytest.mark.django_db
def test_the_roles_have_exactly_their_permissions() -> None:
    granted = {
        group.name: {f"{right.content_type.app_label}.{right.codename}" for right in group.permissions.all()}
        for group in Group.objects.all()
    }
    assert granted[REVIEWERS] == {
        *("generation.review_generation", "generation.view_generation", "generation.view_generatedimage"),
        "generation.view_reviewdecision",
    }
    assert "generation.review_generation" not in granted[OPERATORS]
    assert {right for right in granted[OPERATORS] if ".delete_" in right} == {"generation.delete_generation"}
    assert not {right for right in granted[OPERATORS] if right.endswith(("change_user", "_group"))}
    # Django creates permissions after all migrations, and finds these.
    assert Permission.objects.filter(codename="review_generation").count() == 1
    assert Permission.objects.get(codename="view_auditentry").name == "Can view audit entry"


def test_the_limits_of_a_user_come_before_their_permissions(client: Client, alice: User, charlie: User) -> None:
    client.force_login(charlie)
    page = client.get(reverse("admin:accounts_user_change", args=[alice.pk])).content.decode()
    assert page.index(">Usage</h2>") < page.index(">Limits</h2>") < page.index(">Permissions</h2>")
