from django.db import migrations


def grant(apps, schema_editor):
    """Operators may delete generations for good; Django itself makes permissions only once all migrations are through."""
    content_type, permission, group = (
        apps.get_model(*name) for name in (("contenttypes", "ContentType"), ("auth", "Permission"), ("auth", "Group"))
    )
    kind, _ = content_type.objects.get_or_create(app_label="generation", model="generation")
    found, _ = permission.objects.get_or_create(
        content_type=kind, codename="delete_generation", defaults={"name": "Can delete generation"}
    )
    for operators in group.objects.filter(name="Operators"):
        operators.permissions.add(found)


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0015_words_of_everybody"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
