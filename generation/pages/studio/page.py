"""The studio's page: its form with values from a query or an earlier request, and the user's last generations."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import get_random_string

from accounts.models import User
from accounts.requests import parse_uuid
from generation import capabilities
from generation.images.kinds import ALLOWED
from generation.jobs import contact_sheets
from generation.library.stored import StoredPicture
from generation.models import ContactSheet, DiffusionModel, Generation, GenerationQuerySet, State
from generation.pages.contact_sheets import LABELS, title
from generation.pages.security_headers import allow_other_sites
from generation.pages.studio import fields, first_visit, form
from generation.pages.studio.models import as_json, presentations
from generation.parameters import InvalidField, OutputFormat
from generation.responses import ModelDescription

MODES = ("remix", "exact", "vary")
"""How an earlier request is repeated: with a random seed, the same seed, or the next seed."""

MAX_JOBS = 12
MAX_RECENT = 12
MAX_PROMPTS = 12
MAX_SHEETS = 6


def render_query(request: HttpRequest, user: User) -> HttpResponse:
    """Render the form with the values and the picture that the query asks for.

    Raises `DoesNotExist` if it names a picture that is not the user's, or an unknown mode.
    """
    values, stored, errors = _values_of_query(user, request.GET)
    return render_form(request, user, values, stored, errors)


def render_posted(
    request: HttpRequest, user: User, errors: fields.Errors, *, status: int = 200, previous_model: str = ""
) -> HttpResponse:
    """Render the form again with its submitted values; `previous_model` as for `render_form`."""
    if request.FILES.get("image"):
        # A page cannot put a file back into a form.
        errors.setdefault("image", []).append("Choose the picture again.")
    excluded = ("csrfmiddlewaretoken", "previous_model")
    values = {name: str(text) for name, text in request.POST.items() if name not in excluded}
    try:
        stored = form.stored_choice(user, values)
    except InvalidField:
        stored = None
    return render_form(request, user, values, stored, errors, status=status, previous_model=previous_model)


def render_form(
    request: HttpRequest,
    user: User,
    values: Mapping[str, str],
    stored: StoredPicture | None,
    errors: fields.Errors,
    *,
    status: int = 200,
    previous_model: str = "",
) -> HttpResponse:
    """Render the form with these values.

    Values that are the starting values of `previous_model` become those of the selected model.
    """
    context: dict[str, Any] = {"stored": stored, **_stored_inputs(user, values, stored), **_library_context(user)}
    rows = list(DiffusionModel.objects.allowed_to(user).listed())
    models = [capabilities.describe(row) for row in rows]
    if models:
        model = _select(models, values.get("model_id") or user.default_model)
        errors = {**fields.unavailable_errors(model, values), **errors}
        if previous_model:
            previous_values = fields.starting_values(_select(models, previous_model))
            values = {name: value for name, value in values.items() if previous_values.get(name) != value}
        values = {**fields.starting_values(model), **values, "model_id": model.id}
        presented = presentations(user, rows, models)
        context |= {"presented": presented[model.id], "model_presentations": as_json(presented)}
        context |= {"model_choices": [(each.id, presented[each.id]) for each in models]}
        context |= _form_context(models, model, values, errors)
        if not (context["jobs"] or context["recent"]):
            context |= first_visit.context(user, models)
    context |= {"models": models, "errors": {**errors, **_named_errors(errors)}}
    response = render(request, "generation/studio.html", context, status=status)
    # A picture that is dragged from another site is read from there.
    allow_other_sites(response)
    return response


def _values_of_query(
    user: User, query: Mapping[str, Any]
) -> tuple[dict[str, str], StoredPicture | None, fields.Errors]:
    """Return the form's values, its stored picture, and errors if that picture cannot be used."""
    if query.get("refused") == "size":
        limit = settings.MAX_UPLOAD_BYTES / 2**20
        return {}, None, {"image": [f"The picture was too large; choose one of less than {limit:.0f} MB."]}
    try:
        stored = form.stored_choice(user, query)
    except InvalidField as error:
        return {}, None, form.form_errors(error)
    values: dict[str, str] = {}
    if stored and query.get("from"):
        values = _values_of_generation(stored.generation, query.get("mode", "remix"))
    names = ["prompt", "model_id", "columns_field", "columns"]
    if stored:
        names += ["from", "source", "image"]
    names += ["mask_from", "images_from"]
    values |= {name: str(query[name]) for name in names if query.get(name)}
    return values, stored, {}


def _values_of_generation(generation: Generation, mode: str) -> dict[str, str]:
    """Return the form's values to repeat a request in this mode. Raises `DoesNotExist` for an unknown mode."""
    if mode not in MODES:
        raise Generation.DoesNotExist
    seeds = generation.get_recipe().seeds
    seed = {"remix": "", "exact": str(seeds[0]), "vary": str(seeds[-1] + 1)}[mode]
    values = {**fields.values_of(generation), "seed": seed}
    if generation.mask:
        values["mask_from"] = str(generation.pk)
    if generation.references.exclude(file="").exists():
        values["images_from"] = str(generation.pk)
    return values


def _form_context(
    models: list[ModelDescription], model: ModelDescription, values: Mapping[str, str], errors: fields.Errors
) -> dict[str, Any]:
    loras = fields.loras(models, model, values)
    return {
        "values": values,
        "current_model": model,
        "sliders": fields.sliders(model, values, errors),
        "loras": loras,
        "uses_loras": any(lora.weight and lora.is_available for lora in loras),
        "model_behaviour": fields.model_behaviour_json(models),
        "negative_has_effect": model.parameters["negative_prompt"].has_effect,
        "safety_is_optional": model.parameters["safety_check"].has_effect,
        "max_images": model.parameters["num_images_per_prompt"].maximum,
        "max_characters": fields.max_characters("prompt"),
        "axis_fields": [(name, LABELS[name], _has_effect(model, name)) for name in contact_sheets.FIELDS],
        "formats": list(OutputFormat),
        "max_cells": contact_sheets.MAX_CELLS,
        "key": get_random_string(22),
        **picture_context(),
    }


def picture_context() -> dict[str, Any]:
    """Return what the form's picture may be: its kinds as `accept` and in words, and its size in bytes."""
    return {"accept": fields.accepted_files(), "kinds": ALLOWED, "max_bytes": settings.MAX_UPLOAD_BYTES}


def _stored_inputs(user: User, values: Mapping[str, str], stored: StoredPicture | None) -> dict[str, Any]:
    """Return the generations whose mask and whose further pictures the form's picture has, None without."""
    if stored is None:
        return {}
    rows = Generation.objects.owned_by(user)
    whole = rows.exclude(references__file="")
    return {
        "masked": _named(rows.exclude(mask=""), values.get("mask_from", "")),
        "referenced": _named(whole.prefetch_related("references"), values.get("images_from", "")),
    }


def _named(rows: GenerationQuerySet, text: str) -> Generation | None:
    """Return the generation whose id this text is, None if there is none in `rows`."""
    generation_id = parse_uuid(text)
    return rows.filter(pk=generation_id).first() if generation_id else None


def _library_context(user: User) -> dict[str, Any]:
    """Return the user's unfinished and last generations, last prompts and last contact sheets."""
    rows = Generation.objects.owned_by(user)
    live = rows.live().filter(contact_sheet=None).select_related("source").prefetch_related("images")
    recent = rows.filter(state=State.SUCCEEDED, contact_sheet=None).order_by("-pk").prefetch_related("images")
    sheets = ContactSheet.objects.filter(user=user).recent(MAX_SHEETS)
    return {
        "recent_prompts": rows.last_prompts(MAX_PROMPTS),
        "jobs": list(live[:MAX_JOBS]),
        "recent": list(recent[:MAX_RECENT]),
        "sheets": [(sheet, title(sheet)) for sheet in sheets],
    }


def _named_errors(errors: fields.Errors) -> fields.Errors:
    """Return the errors whose fields have names that no template can write."""
    return {"general": errors.get("", []), "references": errors.get("images[]", [])}


def _has_effect(model: ModelDescription, name: str) -> bool:
    """Return whether this field changes the model's pictures; the prompt and the model always do."""
    return name not in model.parameters or model.parameters[name].has_effect


def _select(models: list[ModelDescription], model_id: str) -> ModelDescription:
    """Return the model of this name, or the default model."""
    return next((model for model in models if model.id == model_id), models[0])
