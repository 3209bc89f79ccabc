"""Models and LoRAs in the admin: what may be used by whom, and workers that fetch and load it ahead of time."""

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
from accounts.audit_admin import Audited
from accounts.strict_lookups import StrictLookupsMixin
from generation.jobs import control
from generation.jobs.control import CommandRefused
from generation.models import (
    DiffusionModel,
    Lora,
    WorkerCommand,
)


class RepositoryAdmin(StrictLookupsMixin, Audited, admin.ModelAdmin[Any]):
    search_fields = ("id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        last = WorkerCommand.objects.filter(target=OuterRef("pk")).order_by("-id")
        told = {name: Subquery(last.values(name)[:1]) for name in ("action", "state", "message")}
        rows: QuerySet[Any] = (
            super().get_queryset(request).annotate(**{f"order_{name}": value for name, value in told.items()})
        )
        return rows

    @admin.display
    def commit(self, row: DiffusionModel | Lora) -> str:
        return row.revision[:12]

    @admin.display
    def last_order(self, row: Any) -> str:
        """What workers were told about it last, and what came of it."""
        if not row.order_verb:
            return ""
        return f"{row.order_verb}: {row.order_state}" + (f", {row.order_message}" if row.order_message else "")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # The name is the key: a row saved under another name would be a second row.
        fixed = ("id",) if obj else ()
        return (*super().get_readonly_fields(request, obj), *fixed)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The name first, though it is only read where it is fixed."""
        return ["id", *(name for name in super().get_fields(request, obj) if name != "id")]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    def order(
        self, request: HttpRequest, row: DiffusionModel | Lora, action: WorkerCommand.Action, pools: Iterable[str]
    ) -> None:
        """Let the workers of these pools do this, and say what was done."""
        try:
            with transaction.atomic():
                given = control.broadcast(pools, action, row.pk, request.user.get_username())
                for order in given:
                    after = {"order": order.pk, "worker": order.worker}
                    audit.record(request.user, f"{row._meta.model_name}.{action.name.lower()}", row, None, after)
        except CommandRefused as refused:
            messages.error(request, str(refused))
        except RedisError:
            messages.error(request, "Redis cannot be reached, so nobody knows the workers; nothing was done.")
        else:
            names = ", ".join(order.worker for order in given)
            text = 'Told {} to {} {}. <a href="{}">Operations</a> shows how far it is.'
            address = reverse("operations")
            messages.success(request, format_html(text, names, action.value.split()[0], row.pk, address))


class DiffusionModelForm(forms.ModelForm[DiffusionModel]):
    def clean_allowed_groups(self) -> Any:
        groups = self.cleaned_data["allowed_groups"]
        if groups and self.instance.is_default:
            raise ValidationError(
                "The default model is everybody's: choose no group, or make another one the default first."
            )
        return groups


@admin.register(DiffusionModel)
class DiffusionModelAdmin(RepositoryAdmin):
    form = DiffusionModelForm
    list_display = (
        *("id", "family", "enabled", "is_default", "pool", "cost_weight", "max_steps", "max_images", "commit"),
        *("reserved_for", "last_order"),
    )
    list_filter = ("enabled", "family")
    filter_horizontal = ("allowed_groups",)
    # The default moves from one model to another in one step, by the action.
    readonly_fields = ("is_default", "last_order")
    actions = ("make_default", "download", "warm")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("allowed_groups")

    @admin.display
    def reserved_for(self, model: DiffusionModel) -> str:
        return ", ".join(group.name for group in model.allowed_groups.all())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Requests that name no model need it.
        return not (obj and obj.is_default) and super().has_delete_permission(request, obj)

    @admin.action(description="Make the selected model the default", permissions=["change"])
    def make_default(self, request: HttpRequest, chosen: QuerySet[DiffusionModel]) -> None:
        models = list(chosen)
        if len(models) != 1 or not models[0].enabled:
            messages.error(request, "Select one model that is enabled.")
            return
        if models[0].allowed_groups.exists():
            messages.error(
                request, f"{models[0]} is reserved for groups, and the default is everybody's: open it to all first."
            )
            return
        with transaction.atomic():
            before = DiffusionModel.objects.filter(is_default=True).first()
            DiffusionModel.objects.filter(is_default=True).update(is_default=False)
            DiffusionModel.objects.filter(pk=models[0].pk).update(is_default=True)
            audit.record(request.user, "diffusionmodel.default", models[0], {"default": before}, {"default": models[0]})
        self.log_change(request, models[0], "Made the default.")
        messages.success(request, f"{models[0]} is the default now.")

    @admin.action(description="Download now what is missing of the selected models", permissions=["operate"])
    def download(self, request: HttpRequest, chosen: QuerySet[DiffusionModel]) -> None:
        for model in chosen:
            self.order(request, model, WorkerCommand.Action.DOWNLOAD, [model.pool])

    @admin.action(description="Warm the selected models now, on all workers of their pools", permissions=["operate"])
    def warm(self, request: HttpRequest, chosen: QuerySet[DiffusionModel]) -> None:
        for model in chosen:
            self.order(request, model, WorkerCommand.Action.WARM, [model.pool])


@admin.register(Lora)
class LoraAdmin(RepositoryAdmin):
    list_display = ("id", "enabled", "weight_name", "commit", "last_order")
    list_filter = ("enabled", "base_models")
    filter_horizontal = ("base_models",)
    readonly_fields = ("last_order",)
    actions = ("download",)

    @admin.action(description="Download now the selected LoRAs", permissions=["operate"])
    def download(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        for lora in chosen:
            pools = {model.pool for model in lora.base_models.all()}
            self.order(request, lora, WorkerCommand.Action.DOWNLOAD_LORA, pools or {"default"})
