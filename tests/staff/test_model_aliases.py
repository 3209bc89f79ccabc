"""Aliases of models in the admin."""

import pytest
from django.test import Client

from accounts.models import AuditEntry
from generation.models import DiffusionModel, ModelAlias
from tests.support.roles import OPERATORS, staff

pytestmark = pytest.mark.django_db

ADD = "/admin/generation/modelalias/add/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(staff("dora", OPERATORS))
    return client


def test_operators_add_aliases_and_the_audit_log_has_them(operator: Client, tiny_edit: DiffusionModel) -> None:
    assert "the default model</option>" in operator.get(ADD).content.decode()
    operator.post(ADD, {"name": "sora-image", "model": "dreamsite/tiny-redraw"})
    assert ModelAlias.objects.get(name="sora-image").model_id == "dreamsite/tiny-redraw"
    entry = AuditEntry.objects.get(action="modelalias.add")
    assert (entry.actor_name, entry.after) == ("dora", {"name": "sora-image", "model": "dreamsite/tiny-redraw"})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("dreamsite/tiny-edit", "There is a model of this name"),
        ("gpt-image-1", "already exists"),
        ("gpt image", "without spaces"),
    ],
)
def test_an_alias_that_cannot_work_is_refused(
    operator: Client, tiny_edit: DiffusionModel, name: str, problem: str
) -> None:
    assert problem in operator.post(ADD, {"name": name, "model": ""}).content.decode()
    assert ModelAlias.objects.filter(name=name).count() == (name == "gpt-image-1")
