"""Models and LoRAs in the admin: who may use them, and downloading and warming them on workers."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from redis import RedisError

from accounts import audit
from accounts.admin_tools.audited import AuditedAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation.jobs import control
from generation.jobs.control import CommandRefused
from generation.models import DiffusionModel, Lora, WorkerCommand
from generation.staff.permissions import can_operate


class RepositoryAdmin(StrictLookupsMixin, AuditedAdminMixin, admin.ModelAdmin[Any]):
    """What the admin pages of models and LoRAs share: both are repositories that workers download."""

    search_fields = ("id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        newest = WorkerCommand.objects.filter(target=OuterRef("pk")).order_by("-id")
        rows: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .annotate(
                command_action=Subquery(newest.values("action")[:1]),
                command_state=Subquery(newest.values("state")[:1]),
                command_message=Subquery(newest.values("message")[:1]),
            )
        )
        return rows

    @admin.display
    def commit(self, row: DiffusionModel | Lora) -> str:
        return row.revision[:12]

    @admin.display
    def last_command(self, row: Any) -> str:
        """The last worker command about this repository, with its state and message."""
        if not row.command_action:
            return ""
        message = f", {row.command_message}" if row.command_message else ""
        return f"{row.command_action}: {row.command_state}{message}"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # The id is the key: a row saved under another one would be a second row.
        fixed = ("id",) if obj else ()
        return (*super().get_readonly_fields(request, obj), *fixed)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the id first even where it is read-only; Django would show it last."""
        return ["id", *(name for name in super().get_fields(request, obj) if name != "id")]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return can_operate(request)

    def send_command(
        self, request: HttpRequest, row: DiffusionModel | Lora, action: WorkerCommand.Action, pools: Iterable[str]
    ) -> None:
        """Send a command about this row to the workers of these pools, and report the result as a message."""
        try:
            with transaction.atomic():
                commands = control.broadcast(pools, action, row.pk, request.user.get_username())
                for command in commands:
                    after = {"command": command.pk, "worker": command.worker}
                    audit.record(request.user, f"{row._meta.model_name}.{action.name.lower()}", row, None, after)
        except CommandRefused as refusal:
            messages.error(request, refusal.message)
        except RedisError:
            messages.error(request, "Redis cannot be reached, so the workers are unknown and nothing was done.")
        else:
            text = 'Sent “{} {}” to {}. <a href="{}">Operations</a> shows the progress.'
            names = ", ".join(command.worker for command in commands)
            messages.success(request, format_html(text, action.value, row.pk, names, reverse("operations")))


class DiffusionModelForm(forms.ModelForm[DiffusionModel]):
    def clean_allowed_groups(self) -> Any:
        groups = self.cleaned_data["allowed_groups"]
        if groups and self.instance.is_default:
            raise ValidationError(
                "The default model must be open to all users: select no group, or make another model the default first."
            )
        return groups


@admin.register(DiffusionModel)
class DiffusionModelAdmin(RepositoryAdmin):
    form = DiffusionModelForm
    list_display = (
        *("id", "family", "enabled", "is_default", "pool", "cost_weight", "max_steps", "max_images", "commit"),
        *("groups", "last_command"),
    )
    list_filter = ("enabled", "family")
    filter_horizontal = ("allowed_groups",)
    # The action `make_default` changes the default of both models in one transaction.
    readonly_fields = ("is_default", "last_command")
    actions = ("make_default", "download", "warm")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("allowed_groups")

    @admin.display(description="reserved for")
    def groups(self, model: DiffusionModel) -> str:
        return ", ".join(group.name for group in model.allowed_groups.all())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Requests without `model_id` need the default model.
        return not (obj and obj.is_default) and super().has_delete_permission(request, obj)

    @admin.action(description="Make the selected model the default", permissions=["change"])
    def make_default(self, request: HttpRequest, queryset: QuerySet[DiffusionModel]) -> None:
        models = list(queryset)
        if len(models) != 1 or not models[0].enabled:
            messages.error(request, "Select one enabled model.")
            return
        model = models[0]
        if model.allowed_groups.exists():
            messages.error(request, f"{model} is reserved for groups; open it to all users first.")
            return
        with transaction.atomic():
            previous = DiffusionModel.objects.filter(is_default=True).first()
            DiffusionModel.objects.filter(is_default=True).update(is_default=False)
            DiffusionModel.objects.filter(pk=model.pk).update(is_default=True)
            audit.record(request.user, "diffusionmodel.default", model, {"default": previous}, {"default": model})
        self.log_change(request, model, "Made the default.")
        messages.success(request, f"{model} is the default now.")

    @admin.action(description="Download missing files of the selected models", permissions=["operate"])
    def download(self, request: HttpRequest, queryset: QuerySet[DiffusionModel]) -> None:
        for model in queryset:
            self.send_command(request, model, WorkerCommand.Action.DOWNLOAD, [model.pool])

    @admin.action(description="Warm the selected models on all workers of their pools", permissions=["operate"])
    def warm(self, request: HttpRequest, queryset: QuerySet[DiffusionModel]) -> None:
        for model in queryset:
            self.send_command(request, model, WorkerCommand.Action.WARM, [model.pool])


@admin.register(Lora)
class LoraAdmin(RepositoryAdmin):
    list_display = ("id", "enabled", "weight_name", "commit", "last_command")
    list_filter = ("enabled", "base_models")
    filter_horizontal = ("base_models",)
    readonly_fields = ("last_command",)
    actions = ("download",)

    @admin.action(description="Download the selected LoRAs", permissions=["operate"])
    def download(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        for lora in queryset:
            pools = {model.pool for model in lora.base_models.all()}
            self.send_command(request, lora, WorkerCommand.Action.DOWNLOAD_LORA, pools or {"default"})
