"""Models and LoRAs in the admin: who may use them, and downloading and warming them on workers."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from redis import RedisError

from accounts import audit
from accounts.admin_tools.audited import AuditedAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation.broker import workers
from generation.broker.workers import WorkerInfo
from generation.families import Family
from generation.family_detection import UnsupportedModel
from generation.jobs import canaries, control
from generation.jobs.control import CommandRefused
from generation.library import files
from generation.models import DiffusionModel, Lora, WorkerCommand
from generation.recipes import ModelReference
from generation.repositories.inspection import Inspection, inspect_lora, inspect_model
from generation.repositories.lora_fit import Architecture, other_architecture
from generation.repositories.single_files import SingleFile, single_file_of
from generation.repositories.sources import Source
from generation.staff.enabled_switch import EnabledSwitchMixin
from generation.staff.inspected_admin import (
    InspectedAdmin,
    InspectedForm,
    may_download,
    read_inspection,
    stored_inspection,
)
from generation.staff.model_facts import family_facts, memory_facts, size_in_words
from generation.staff.permissions import can_operate

_MEMORY_FIELDS = ("offload", "quantization", "vae_tiling", "step_cache", "compile_repeated_blocks")

_COMMAND_FIELDS = ("id", "action", "target", "state", "message", "done_bytes", "total_bytes", "bytes_per_second")
"""The fields of the last command that the pages show."""


class RepositoryAdmin(StrictLookupsMixin, EnabledSwitchMixin, AuditedAdminMixin, InspectedAdmin):
    """What the admin pages of models and LoRAs share: both are repositories that workers download."""

    search_fields = ("id",)
    change_list_template = "admin/generation/inspection/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        newest = WorkerCommand.objects.filter(target=OuterRef("pk")).order_by("-id")
        last = {f"command_{name}": Subquery(newest.values(name)[:1]) for name in _COMMAND_FIELDS}
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**last)
        return rows

    def start_download(self, request: HttpRequest, row: Any) -> None:
        """Send the command to download a row."""
        raise NotImplementedError

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save, and download what requests can now use: they are refused until it is on disk."""
        super().save_related(request, form, formsets, change)
        row = form.instance
        has_new_commit = form.found_before is not None and form.found_before.get("revision") != row.revision
        is_needed = row.enabled and may_download(row) and ("enabled" in form.changed_data or has_new_commit)
        if is_needed and self.has_operate_permission(request):
            self.start_download(request, row)

    def after_enabling(self, request: HttpRequest, row: Any) -> None:
        """Download what requests can use from now on."""
        if row.enabled and may_download(row) and self.has_operate_permission(request):
            self.start_download(request, row)

    @admin.display(ordering="download_bytes")
    def size(self, row: DiffusionModel | Lora) -> str:
        return size_in_words(row.download_bytes) if row.download_bytes is not None else ""

    @admin.display
    def last_command(self, row: Any) -> str:
        """The last worker command about this repository, with its state, and its progress or message."""
        if not getattr(row, "command_action", None):
            return ""
        command = WorkerCommand(**{name: getattr(row, f"command_{name}") for name in _COMMAND_FIELDS})
        context = {"command": command, "is_refreshed": command.is_open, "shows_action": True}
        return render_to_string("admin/operations/_command_state.html", context)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what the inspection tells: the id, and the file unless there are several to choose from.

        The family, which it also tells, comes first.
        """
        found = self.found(request)
        hidden = {"id"} if found and len(found.weights) > 1 else {"id", "weight_name"}
        hidden |= set() if obj else set(self.readonly_fields)
        fields = [name for name in super().get_fields(request, obj) if name not in hidden]
        return sorted(fields, key=lambda name: name != "family")

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


class DiffusionModelForm(InspectedForm):
    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if cleaned and cleaned.get("family") and "family" in self.changed_data:
            try:
                _single_file(self.instance.pk, Family(cleaned["family"]))
            except UnsupportedModel as refusal:
                self.add_error("family", str(refusal))
        return cleaned

    def clean_allowed_groups(self) -> Any:
        groups = self.cleaned_data["allowed_groups"]
        if groups and self.instance.is_default:
            raise ValidationError(
                "The default model must be open to all users: select no group, or make another model the default first."
            )
        return groups


def _registered() -> list[WorkerInfo]:
    """Return the workers, as far as they are known."""
    try:
        return workers.registered()
    except RedisError:
        return []


def _gpu_bytes() -> list[int]:
    """Return the memory of each worker's GPU."""
    return [info.memory_total for info in _registered() if info.device.startswith("cuda") and not info.is_stale]


@admin.register(DiffusionModel)
class DiffusionModelAdmin(RepositoryAdmin):
    form = DiffusionModelForm
    list_display = ("id", "enabled", "family", "size", "licence", "pool", "groups", "last_command")
    list_filter = ("enabled", "family")
    filter_horizontal = ("allowed_groups",)
    # The action `make_default` changes the default of both models in one transaction.
    readonly_fields = ("is_default", "last_command", "in_force")
    actions = ("make_default", "download", "warm")

    def inspect(self, source: Source) -> Inspection:
        return inspect_model(source, settings.MODELS_DIR, settings.MODELS_OFFLINE)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.family_facts)
        return [path("family/", view, name="generation_diffusionmodel_family"), *super().get_urls()]

    def family_facts(self, request: HttpRequest) -> HttpResponse:
        """Show what follows from the family that is being chosen for a model."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        name, family = request.GET.get("model", ""), request.GET.get("family", "")
        facts = family_facts(name, Family(family)) if family in set(Family) else []
        return TemplateResponse(request, "admin/generation/inspection/_facts.html", {"facts": facts})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        found = self.found(request)
        return {"family": found.family or ""} if found else {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        form, row = context["adminform"].form, context["original"]
        # Who may only see the row has no fields.
        name = form["family"].value() if "family" in form.fields else row.family
        family = Family(name) if name in set(Family) else None
        shown = self.found(request) or stored_inspection(row)
        context["shows_family"] = True
        context["base"] = _base_of(shown, family) if family else ""
        context["family_facts"] = family_facts(shown.repository, family) if family else []
        context["memory_facts"] = memory_facts(shown.parameters, family, _gpu_bytes())
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("allowed_groups")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        memory = [*_MEMORY_FIELDS, *(["in_force"] if obj else [])]
        others = [name for name in self.get_fields(request, obj) if name not in (*_MEMORY_FIELDS, "in_force")]
        return [(None, {"fields": others}), ("Memory and speed", {"fields": memory})]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns, one of them from what the workers have reported, which is read once for all rows."""
        infos = [info for info in _registered() if not info.is_stale]

        @admin.display
        def downloaded(model: DiffusionModel) -> str:
            pool = [info for info in infos if info.pool == model.pool and model.enabled]
            hosts = {info.host for info in pool}
            with_files = {info.host for info in pool if model.pk not in info.missing}
            if len(hosts) > 1 and len(with_files) < len(hosts):
                return f"on {len(with_files)} of {len(hosts)} hosts"
            return ("yes" if with_files else "no") if hosts else ""

        columns = super().get_list_display(request)
        columns.insert(columns.index("size"), downloaded)
        return columns

    @admin.display
    def in_force(self, model: DiffusionModel) -> str:
        """How workers have the model in memory now."""
        try:
            loaded = [
                (worker.name, worker.plans[model.pk]) for worker in workers.registered() if model.pk in worker.plans
            ]
        except RedisError:
            return "unknown, Redis cannot be reached"
        return "; ".join(f"{plan} on {name}" for name, plan in loaded) or "not loaded"

    @admin.display(description="reserved for")
    def groups(self, model: DiffusionModel) -> str:
        return ", ".join(group.name for group in model.allowed_groups.all())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Requests without `model_id` need the default model.
        return not (obj and obj.is_default) and super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        deletion = canaries.delete_of([obj])
        super().delete_model(request, obj)
        transaction.on_commit(lambda: files.delete_now(deletion))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DiffusionModel]) -> None:
        deletion = canaries.delete_of(list(queryset))
        super().delete_queryset(request, queryset)
        transaction.on_commit(lambda: files.delete_now(deletion))

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
            self.start_download(request, model)

    def start_download(self, request: HttpRequest, row: DiffusionModel) -> None:
        self.send_command(request, row, WorkerCommand.Action.DOWNLOAD, [row.pool])

    @admin.action(description="Warm the selected models on all workers of their pools", permissions=["operate"])
    def warm(self, request: HttpRequest, queryset: QuerySet[DiffusionModel]) -> None:
        for model in queryset:
            self.send_command(request, model, WorkerCommand.Action.WARM, [model.pool])


def _base_of(found: Inspection, family: Family) -> str:
    """Return the repository that has what a single file lacks, "" if it is none or cannot be loaded as this family."""
    try:
        single = _single_file(found.repository, family)
    except UnsupportedModel:
        return ""
    return single.base.id if single else ""


def _single_file(repository: str, family: Family) -> SingleFile | None:
    """Return the single file of a model; None if it has none, or it is damaged. Raises `UnsupportedModel`."""
    try:
        return single_file_of(ModelReference(id=repository, revision="", family=family), settings.MODELS_DIR)
    except (OSError, ValueError):
        return None


def _reason_against(found: Inspection, model_id: str, family: str) -> str:
    """Return why a LoRA does not fit a model, "" if it may."""
    return other_architecture(Architecture(found.trained_for), model_id, Family(family)) if found.trained_for else ""


class LoraForm(InspectedForm):
    def clean_base_models(self) -> Any:
        bases, found = self.cleaned_data["base_models"], read_inspection(self.data.get("inspection", ""))
        reasons = [_reason_against(found, base.pk, base.family) for base in bases] if found else []
        if any(reasons):
            raise ValidationError([reason for reason in reasons if reason])
        return bases


@admin.register(Lora)
class LoraAdmin(RepositoryAdmin):
    form = LoraForm
    list_display = ("id", "enabled", "weight_name", "size", "licence", "last_command")
    list_filter = ("enabled", "base_models")
    filter_horizontal = ("base_models",)
    readonly_fields = ("last_command",)
    actions = ("download",)

    def inspect(self, source: Source) -> Inspection:
        return inspect_lora(source, settings.MODELS_DIR, settings.MODELS_OFFLINE)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        found = self.found(request)
        if found is None:
            return {}
        bases = DiffusionModel.objects.filter(pk__in=found.base_models)
        return {"weight_name": found.file, "base_models": bases}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        found = self.found(request)
        if db_field.name == "weight_name" and found:
            choices = [(name, f"{name} ({size_in_words(size)})") for name, size in found.weights.items()]
            return forms.ChoiceField(label="File", choices=choices, help_text="The file that is used.")
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the models that the LoRA may fit. The form tells why others do not."""
        field, found = super().formfield_for_manytomany(db_field, request, **kwargs), self.found(request)
        if field and found:
            bases = DiffusionModel.objects.values_list("pk", "family")
            field.choices = [(pk, pk) for pk, family in bases if not _reason_against(found, pk, family)]
        return field

    @admin.action(description="Download the selected LoRAs", permissions=["operate"])
    def download(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        for lora in queryset:
            self.start_download(request, lora)

    def start_download(self, request: HttpRequest, row: Lora) -> None:
        pools = {model.pool for model in row.base_models.all()}
        self.send_command(request, row, WorkerCommand.Action.DOWNLOAD_LORA, pools or {"default"})
