from django.db import migrations

ROLES = {
    "Reviewers": {
        "generation": ["review_generation", "view_generation", "view_generatedimage", "view_reviewdecision"],
    },
    "Operators": {
        "generation": [
            *("view_generation", "change_generation", "view_generatedimage"),
            *("view_diffusionmodel", "add_diffusionmodel", "change_diffusionmodel"),
            *("view_lora", "add_lora", "change_lora"),
        ],
        "accounts": ["view_user", "suspend_user", "view_apitoken", "change_apitoken", "view_auditentry"],
    },
}
NAMES = {
    "generatedimage": "generated image",
    "reviewdecision": "review decision",
    "diffusionmodel": "model",
    "lora": "LoRA",
    "apitoken": "API token",
    "auditentry": "audit entry",
}
OWN = {"review_generation": "Can review generations", "suspend_user": "Can suspend user"}


def make_roles(apps, schema_editor):
    """The groups with their permissions; Django itself makes permissions only once all migrations are through."""
    content_type, permission, group = (
        apps.get_model(*name) for name in (("contenttypes", "ContentType"), ("auth", "Permission"), ("auth", "Group"))
    )
    for role, granted in ROLES.items():
        made, _ = group.objects.get_or_create(name=role)
        for app, codenames in granted.items():
            for codename in codenames:
                verb, _, model = codename.partition("_")
                kind, _ = content_type.objects.get_or_create(app_label=app, model=model)
                name = OWN.get(codename, f"Can {verb} {NAMES.get(model, model)}")
                found, _ = permission.objects.get_or_create(
                    content_type=kind, codename=codename, defaults={"name": name}
                )
                made.permissions.add(found)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_suspension"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("generation", "0009_review"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
