"""Admin pages of repositories: what one field names is inspected, shown, and saved as it was shown.

What was found travels from the page that shows it to the request that saves it in a signed field, so that a row has exactly
what its editor saw, whatever happened to the repository meanwhile.
"""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import quote, unquote
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from huggingface_hub import constants

from accounts import audit
from generation.family_detection import UnsupportedModel
from generation.models import DiffusionModel, Lora
from generation.repositories.files import find_directory
from generation.repositories.inspection import Inspection, InspectionFailed
from generation.repositories.lightning import repository_of
from generation.repositories.sources import InvalidSource, Source, parse_source
from generation.staff.model_facts import size_in_words

_SALT = "generation.inspection"
_MAX_AGE_SECONDS = 24 * 3600
_FIELD = "inspection"
_STALE = "What was found is too old or was changed: inspect it again."


class SourceForm(forms.Form):
    """The one field of the page that adds a model or LoRA. `inspection` is what was found there, once it is valid."""

    source = forms.CharField(
        label="Name, link, directory or file",
        max_length=1000,
        help_text=(
            "owner/name on the hub or in MODELS_DIR, a link to a repository or a LoRA's file on the hub, or "
            "owner/name/file.safetensors in MODELS_DIR."
        ),
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True, "spellcheck": "false"}),
    )

    def __init__(self, data: Any, model: Any, inspect: Callable[[Source], Inspection]) -> None:
        super().__init__(data)
        self._model = model
        self._inspect = inspect

    def clean_source(self) -> str:
        text: str = self.cleaned_data["source"]
        try:
            source = parse_source(text, settings.MODELS_DIR)
            _check_is_new(self._model, source.repository)
            self.inspection = self._inspect(source)
        except (InvalidSource, InspectionFailed, UnsupportedModel) as refusal:
            raise ValidationError(str(refusal)) from refusal
        return text


def _check_is_new(model: Any, repository: str) -> None:
    if model.objects.filter(pk=repository).exists():
        address = reverse(f"admin:generation_{model._meta.model_name}_change", args=[quote(repository)])
        text = '{} is in the list already: <a href="{}?inspect=again">inspect it there</a>.'
        raise ValidationError(format_html(text, repository, address))


class InspectedForm(forms.ModelForm[Any]):
    """A form whose row gets what was found by the inspection in its signed field; a new row needs one.

    `found_before` are the columns before, for a new row empty; None without an inspection.
    """

    found_before: dict[str, Any] | None = None

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        is_new = self.instance._state.adding
        token = self.data.get(_FIELD, "")
        if not token and not is_new:
            return cleaned
        found = read_inspection(token)
        if found is None or not (is_new or found.repository == self.instance.pk):
            raise ValidationError(_STALE)
        if is_new:
            _check_is_new(type(self.instance), found.repository)
        self.found_before = {} if is_new else found_values(self.instance)
        apply_inspection(self.instance, found, (cleaned or {}).get("weight_name", found.file))
        return cleaned


def sign_inspection(found: Inspection) -> str:
    return signing.dumps(found.model_dump(mode="json"), salt=_SALT, compress=True)


def read_inspection(token: str) -> Inspection | None:
    """Return what `sign_inspection` signed; None if it is older than a day, or not signed here."""
    try:
        return Inspection.model_validate(signing.loads(token, salt=_SALT, max_age=_MAX_AGE_SECONDS))
    except (signing.BadSignature, ValueError):
        return None


def apply_inspection(row: DiffusionModel | Lora, found: Inspection, file: str) -> None:
    """Set the columns of an inspection; `file` is the chosen one."""
    if row._state.adding:
        row.pk = found.repository
    row.revision = found.revision
    row.weight_name = file
    row.licence = found.licence[:200]
    row.is_gated = found.is_gated
    row.download_bytes = found.weights.get(file, found.download_bytes)
    row.inspection_problem = found.problem
    if isinstance(row, DiffusionModel):
        row.float16_bytes = found.float16_bytes
        row.component_parameters = found.parameters


def stored_inspection(row: DiffusionModel | Lora) -> Inspection:
    """Return the columns of the last inspection."""
    model = row if isinstance(row, DiffusionModel) else None
    return Inspection(
        repository=row.pk,
        revision=row.revision,
        file=row.weight_name,
        problem=row.inspection_problem,
        licence=row.licence,
        is_gated=row.is_gated,
        download_bytes=row.download_bytes,
        float16_bytes=model.float16_bytes if model else None,
        parameters=model.component_parameters if model else {},
    )


def found_values(row: DiffusionModel | Lora) -> dict[str, Any]:
    """Return the columns of an inspection for the audit log."""
    names = ("revision", "weight_name", "licence", "is_gated", "download_bytes", "inspection_problem")
    return {name: getattr(row, name) for name in names}


class InspectedAdmin(admin.ModelAdmin[Any]):
    """Adds rows in two steps: one field, then the form below what was found. Rows can be inspected again."""

    change_form_template = "admin/generation/inspection/change_form.html"

    def inspect(self, source: Source) -> Inspection:
        """Inspect what a row is to be made of. Raises `InspectionFailed` and `UnsupportedModel`."""
        raise NotImplementedError

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method == "POST" and self.found(request) is None:
            messages.error(request, _STALE)
            return redirect(request.path)
        if request.method == "POST":
            return super().add_view(request, form_url, extra_context)
        form = SourceForm(request.GET if "source" in request.GET else None, self.model, self.inspect)
        if form.is_valid():
            _remember(request, form.inspection)
            # Without the query, which would be inspected again for "Save and add another".
            return super().add_view(request, form_url or request.path, extra_context)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Add {self.opts.verbose_name}",
            "opts": self.opts,
            "form": form,
            "offline": settings.MODELS_OFFLINE,
            "is_popup": IS_POPUP_VAR in request.GET,
            "is_popup_var": IS_POPUP_VAR,
        }
        return TemplateResponse(request, "admin/generation/inspection/add.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is not None and self.has_change_permission(request, row):
            needs_commit = bool(request.POST.get("enabled")) and not request.POST.get(_FIELD) and _has_no_files(row)
            if needs_commit or (request.method == "GET" and "inspect" in request.GET):
                self._inspect_again(request, row)
        # Without the query, which would be inspected again after saving.
        return super().change_view(request, object_id, form_url or request.path, extra_context)

    def _inspect_again(self, request: HttpRequest, row: DiffusionModel | Lora) -> None:
        """Show what is found now, or else what was found earlier and a message."""
        try:
            found = self.inspect(_source_of(row, is_newest=request.GET.get("inspect") == "newest"))
        except (InspectionFailed, UnsupportedModel) as refusal:
            messages.error(request, f"Not inspected: {refusal}")
        else:
            if found.problem:
                messages.error(request, f"Not inspected: {found.problem}")
            else:
                _remember(request, found)

    def found(self, request: HttpRequest) -> Inspection | None:
        """Return what this request has inspected, or what the page that sent it showed."""
        remembered: Inspection | None = getattr(request, _FIELD, None)
        return remembered or read_inspection(request.POST.get(_FIELD, ""))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row, found = context["original"], self.found(request)
        shown = found or (stored_inspection(row) if row else None)
        context |= {
            "found": shown,
            "files": files_in_words(shown) if shown else "",
            "is_found_now": found is not None,
            "has_no_files": row is not None and _has_no_files(row),
            "may_download": row is not None and may_download(row),
            "token": sign_inspection(found) if found else "",
            "hub_address": f"{constants.ENDPOINT}/{found.repository if found else row.pk}",
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.found_before is not None:
            row, before = form.instance, form.found_before or None
            audit.record(request.user, f"{row._meta.model_name}.inspect", row, before, found_values(row))


def files_in_words(found: Inspection) -> str:
    if found.download_bytes is None:
        count = len(found.weights)
        return f"{count} to choose from" if count else "not known"
    size = size_in_words(found.download_bytes)
    if not found.revision:
        return f"{size} on this server"
    half = found.float16_bytes
    return f"{size} are fetched from the hub" + (
        f"; {size_in_words(half)} by workers that compute in float16" if half else ""
    )


def _remember(request: HttpRequest, found: Inspection) -> None:
    setattr(request, _FIELD, found)


def may_download(row: DiffusionModel | Lora) -> bool:
    """Return whether workers may have to download something: a commit, or what a model in a single file lacks."""
    return bool(row.revision or (isinstance(row, DiffusionModel) and row.weight_name))


def _has_no_files(row: DiffusionModel | Lora) -> bool:
    """Return whether a row has neither a commit nor a directory, as most listed models."""
    return not row.revision and find_directory(repository_of(row.pk), settings.MODELS_DIR) is None


def _source_of(row: DiffusionModel | Lora, is_newest: bool) -> Source:
    """Return where the files of a row come from now: a directory, the same commit, or the newest one of main."""
    if find_directory(repository_of(row.pk), settings.MODELS_DIR) is not None:
        return Source(row.pk, "", row.weight_name)
    return Source(row.pk, "main" if is_newest else row.revision, row.weight_name)
