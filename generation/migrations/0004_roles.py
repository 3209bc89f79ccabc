"""The groups of staff, with their permissions."""

from typing import Any

from django.db import migrations

# By app and model: codenames, and the names of those that Django does not name itself.
REVIEWERS = {
    ("generation", "generation"): ["review_generation", "view_generation"],
    ("generation", "generatedimage"): ["view_generatedimage"],
    ("generation", "reviewdecision"): ["view_reviewdecision"],
}
OPERATORS = {
    ("generation", "generation"): ["operate", "view_generation", "change_generation", "delete_generation"],
    ("generation", "generatedimage"): ["view_generatedimage"],
    ("generation", "diffusionmodel"): ["view_diffusionmodel", "add_diffusionmodel", "change_diffusionmodel"],
    ("generation", "lora"): ["view_lora", "add_lora", "change_lora"],
    ("accounts", "user"): ["view_user", "suspend_user"],
    ("accounts", "apitoken"): ["view_apitoken", "change_apitoken"],
    ("accounts", "auditentry"): ["view_auditentry"],
}
VERBOSE_NAMES = {
    "generatedimage": "generated image",
    "reviewdecision": "review decision",
    "diffusionmodel": "model",
    "lora": "LoRA",
    "apitoken": "API token",
    "auditentry": "audit entry",
}
CUSTOM = {
    "review_generation": "Can review generations",
    "operate": "Can operate workers, pools and retention",
    "suspend_user": "Can suspend user",
}


def create(apps: Any, schema_editor: Any) -> None:
    """Create the permissions too: Django does so only after the last migration, and then leaves these as they are."""
    content_types = apps.get_model("contenttypes", "ContentType").objects
    permissions = apps.get_model("auth", "Permission").objects
    for role, granted in (("Reviewers", REVIEWERS), ("Operators", OPERATORS)):
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        for (app, model), codenames in granted.items():
            content_type, _ = content_types.get_or_create(app_label=app, model=model)
            for codename in codenames:
                action = codename.partition("_")[0]
                name = CUSTOM.get(codename, f"Can {action} {VERBOSE_NAMES.get(model, model)}")
                permission, _ = permissions.get_or_create(
                    content_type=content_type, codename=codename, defaults={"name": name}
                )
                group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("generation", "0003_models"),
    ]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
