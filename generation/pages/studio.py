"""The studio: a form for a picture and a prompt, and what comes of it. It works as a plain form; a script adds the rest."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.requests import current_user
from generation import capabilities, display
from generation.images.uploads import Upload
from generation.jobs import contact_sheets, idempotency, limits, submission
from generation.jobs.forecast import Forecast
from generation.library.stored import StoredPicture
from generation.models import ContactSheet, DiffusionModel, Generation, State
from generation.pages import sheets, snippets, studio_form
from generation.pages.caching import revalidated
from generation.parameters import ImageToImageParameters, InvalidField, OutputFormat, Refusal
from generation.responses import ModelDescription
from generation.serializers import records

MODES = ("remix", "exact", "vary")
LIVE_SHOWN = 12
RECENT_SHOWN = 12
PROMPTS_SHOWN = 12
SHEETS_SHOWN = 6

# A page cannot put a file back into a form.
_CHOOSE_AGAIN = "Choose the picture again."


@revalidated
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def studio(request: HttpRequest) -> HttpResponse:
    """Show the form with the user's unfinished and last generations; `POST` submits pictures or a contact sheet."""
    user = current_user(request)
    try:
        if request.method == "POST":
            return _post(request, user)
        return _page(request, user, *_prefilled(user, request.GET))
    except ObjectDoesNotExist:
        raise Http404 from None


@never_cache
@login_required
@require_POST
def estimate(request: HttpRequest) -> HttpResponse:
    """Answer with the cost and time of the form as JSON, `sheet` with those of its contact sheet, and code that sends it.

    The picture need not be sent.
    """
    user = current_user(request)
    fields = studio_form.parameter_fields(request.POST)
    content: dict[str, Any] = {"words": "", "sheet": "", "warnings": [], "errors": {}}
    try:
        form = studio_form.read(user, request.POST, request.FILES, fields)
        size = form.stored.size if form.stored else studio_form.size_of(request.POST)
        content |= _snippets(request, form.parameters, form.stored, request.POST.get("filename", ""))
        draft = submission.build(submission.Request(user, None, form.parameters, None, size=size))
        content["warnings"] = draft.warnings
        content["sheet"] = _estimated_sheet(user, request.POST, fields, size)
        content["words"] = _estimated(user, [draft], [submission.estimate(draft)], size_is_known=size is not None)
    except Refusal as refusal:
        content["errors"] = studio_form.form_errors(refusal)
    except ObjectDoesNotExist:
        raise Http404 from None
    return JsonResponse(content)


@revalidated
@login_required
@require_safe
def job(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Show one of the user's generations as the studio does, for the script to put in place."""
    rows = Generation.objects.owned_by(request.user).prefetch_related("images")
    return render(request, "generation/_job.html", {"generation": get_object_or_404(rows, pk=generation_id)})


@never_cache
@require_safe
def events(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Answer with the record of one of the user's generations, from which the ASGI layer makes its stream of events."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Sign in again."}, status=403)
    rows = Generation.objects.owned_by(request.user).select_related("user").prefetch_related("images")
    generation = get_object_or_404(rows, pk=generation_id)
    absolute = request.build_absolute_uri
    return JsonResponse({"origin": absolute("/"), "record": records([generation], absolute)[0]})


def _post(request: HttpRequest, user: User) -> HttpResponse:
    if "switch" in request.POST:
        return _switch_model(request, user)
    fields = studio_form.parameter_fields(request.POST)
    try:
        # Before the upload is decoded.
        limits.check(user, 0.0)
        form = studio_form.read(user, request.POST, request.FILES, fields)
        if "explore" in request.POST:
            return _sheet_accepted(request, _submit_sheet(request, user, form, fields))
        return _accepted(request, _submit(request, user, form))
    except Refusal as refusal:
        return _refused(request, user, refusal)


def _accepted(request: HttpRequest, generation: Generation) -> HttpResponse:
    if not _is_scripted(request):
        return redirect("generation", generation.pk)
    generation = Generation.objects.prefetch_related("images").get(pk=generation.pk)
    return render(request, "generation/_job.html", {"generation": generation}, status=201)


def _sheet_accepted(request: HttpRequest, sheet: ContactSheet) -> HttpResponse:
    target = reverse("sheet", args=[sheet.pk])
    return JsonResponse({"location": target}, status=201) if _is_scripted(request) else redirect(target)


def _refused(request: HttpRequest, user: User, refusal: Refusal) -> HttpResponse:
    """Show the form again with the errors; to the script, only the errors."""
    errors, status = studio_form.form_errors(refusal), refusal.code.status
    if _is_scripted(request):
        return JsonResponse({"errors": errors}, status=status)
    if request.FILES.get("image"):
        errors.setdefault("image", []).append(_CHOOSE_AGAIN)
    values = _posted_values(request)
    response = _page(request, user, values, _stored(user, values), errors)
    response.status_code = status
    return response


def _switch_model(request: HttpRequest, user: User) -> HttpResponse:
    """Show the form for another model, without a script."""
    values = _posted_values(request)
    errors: studio_form.Errors = {"image": [_CHOOSE_AGAIN]} if request.FILES.get("image") else {}
    return _page(request, user, values, _stored(user, values), errors, previous_model=values.pop("was", ""))


def _is_scripted(request: HttpRequest) -> bool:
    return request.headers.get("X-Requested-With") == "fetch"


def _posted_values(request: HttpRequest) -> dict[str, str]:
    return {name: str(text) for name, text in request.POST.items() if name != "csrfmiddlewaretoken"}


def _submit(request: HttpRequest, user: User, form: studio_form.StudioRequest) -> Generation:
    picture = form.picture()
    submitted = submission.Request(user, None, form.parameters, picture, source_id=form.source_id)
    return submission.submit_once(
        lambda: [submission.build(submitted)], picture, _idempotent(request, user, form, picture)
    )


def _submit_sheet(
    request: HttpRequest, user: User, form: studio_form.StudioRequest, fields: Mapping[str, str]
) -> ContactSheet:
    grid = _grid(request.POST)
    if grid is None:
        raise InvalidField("columns", "Choose what varies along the columns, and its values")
    picture = form.picture()
    idempotent = _idempotent(request, user, form, picture, f"{grid.columns} {grid.rows}")
    return contact_sheets.submit_once(user, fields, picture, grid, form.source_id, idempotent)


def _grid(post: QueryDict) -> contact_sheets.Grid | None:
    """Return the grid that the form describes, if it does. Raises `InvalidField`."""
    columns = contact_sheets.read_axis("columns", post.get("columns_field", ""), post.get("columns", ""))
    rows = contact_sheets.read_axis("rows", post.get("rows_field", ""), post.get("rows", ""))
    return contact_sheets.Grid(columns, rows) if columns else None


def _idempotent(
    request: HttpRequest, user: User, form: studio_form.StudioRequest, picture: Upload, varied: str = ""
) -> idempotency.IdempotentRequest | None:
    """Identify the request by the form's nonce and content: a double click submits once, a changed form anew."""
    nonce = request.POST.get("key", "")[:64]
    if not nonce:
        return None
    digest = f"{picture.sha256} {picture.size}"
    fingerprint = idempotency.fingerprint(f"studio {nonce} {varied}", form.parameters, digest)
    return idempotency.IdempotentRequest(user, None, fingerprint, fingerprint)


def _prefilled(user: User, query: Mapping[str, Any]) -> tuple[dict[str, str], StoredPicture | None, studio_form.Errors]:
    """Return the form's values and stored picture that a query asks for, and why that picture cannot be used."""
    values: dict[str, str] = {}
    if query.get("refused") == "size":
        limit = settings.MAX_UPLOAD_BYTES / 2**20
        return values, None, {"image": [f"The picture was too large; choose one of less than {limit:.0f} MB."]}
    try:
        stored = studio_form.stored_choice(user, query)
    except InvalidField as error:
        return values, None, studio_form.form_errors(error)
    if stored and query.get("from"):
        values = studio_form.values_of(stored.generation)
        mode = query.get("mode", "remix")
        if mode not in MODES:
            raise Generation.DoesNotExist
        seeds = stored.generation.get_recipe().seeds
        values["seed"] = {"remix": "", "exact": str(seeds[0]), "vary": str(seeds[-1] + 1)}[mode]
    for name in ("from", "source", "image"):
        if stored and query.get(name):
            values[name] = str(query[name])
    for name in ("prompt", "model_id"):
        if query.get(name):
            values[name] = str(query[name])
    return values, stored, {}


def _stored(user: User, values: Mapping[str, Any]) -> StoredPicture | None:
    try:
        return studio_form.stored_choice(user, values)
    except InvalidField:
        return None


def _page(
    request: HttpRequest,
    user: User,
    values: Mapping[str, str],
    stored: StoredPicture | None,
    errors: studio_form.Errors,
    previous_model: str = "",
) -> HttpResponse:
    """Show the form with these values.

    Values that are the starting ones of `previous_model` become those of the chosen model.
    """
    context: dict[str, Any] = {"stored": stored}
    models = [capabilities.describe(row) for row in DiffusionModel.objects.allowed_to(user).listed()]
    if models:
        chosen = _chosen(models, values.get("model_id") or user.default_model)
        errors = {**studio_form.unavailable(chosen, values), **errors}
        if previous_model:
            previous = studio_form.starting_values(_chosen(models, previous_model))
            values = {name: value for name, value in values.items() if previous.get(name) != value}
        values = {**studio_form.starting_values(chosen), **values, "model_id": chosen.id}
        context |= _form_context(models, chosen, values, errors)
    context |= {"models": models, "errors": {**errors, "general": errors.get("", [])}, **_library_context(user)}
    return render(request, "generation/studio.html", context)


def _form_context(
    models: list[ModelDescription], chosen: ModelDescription, values: Mapping[str, str], errors: studio_form.Errors
) -> dict[str, Any]:
    loras = studio_form.loras(models, chosen, values)
    return {
        "values": values,
        "current_model": chosen,
        "sliders": studio_form.sliders(chosen, values, errors),
        "loras": loras,
        "uses_loras": any(lora.weight and lora.fits for lora in loras),
        "model_behaviour": studio_form.model_behaviour_json(models),
        "negative_has_effect": chosen.parameters["negative_prompt"].has_effect,
        "max_images": chosen.parameters["num_images_per_prompt"].maximum,
        "max_characters": studio_form.limit_of("prompt"),
        "axis_fields": [(name, sheets.LABELS[name], _has_effect(chosen, name)) for name in contact_sheets.FIELDS],
        "formats": list(OutputFormat),
        "max_cells": contact_sheets.MAX_CELLS,
        "key": get_random_string(22),
        "max_bytes": settings.MAX_UPLOAD_BYTES,
    }


def _library_context(user: User) -> dict[str, Any]:
    """Return what the page shows of the user's generations: unfinished and last ones, last prompts and sheets."""
    rows = Generation.objects.owned_by(user)
    live = rows.live().filter(contact_sheet=None).prefetch_related("images")
    recent = rows.filter(state=State.SUCCEEDED, contact_sheet=None).order_by("-pk").prefetch_related("images")
    last_sheets = ContactSheet.objects.filter(user=user).recent(SHEETS_SHOWN)
    return {
        "recent_prompts": rows.last_prompts(PROMPTS_SHOWN),
        "jobs": list(live[:LIVE_SHOWN]),
        "recent": list(recent[:RECENT_SHOWN]),
        "sheets": [(sheet, sheets.title(sheet)) for sheet in last_sheets],
    }


def _has_effect(model: ModelDescription, name: str) -> bool:
    """Return whether this field changes the model's pictures; the prompt and the model always do."""
    return name not in model.parameters or model.parameters[name].has_effect


def _chosen(models: list[ModelDescription], model_id: str) -> ModelDescription:
    """Return the model of this name, or the default model."""
    return next((model for model in models if model.id == model_id), models[0])


def _estimated_sheet(user: User, post: QueryDict, fields: Mapping[str, str], size: tuple[int, int] | None) -> str:
    """Return time and cost of the form's contact sheet, or its errors, in words; empty if it describes none."""
    try:
        grid = _grid(post)
        if grid is None:
            return ""
        cells = contact_sheets.drafts(user, fields, None, grid, size)
        return _estimated(user, cells, submission.estimate_together(cells), size_is_known=size is not None)
    except Refusal as refusal:
        return " ".join(words for messages in studio_form.form_errors(refusal).values() for words in messages)


def _estimated(user: User, drafts: Sequence[Generation], forecasts: Sequence[Forecast], *, size_is_known: bool) -> str:
    """Return time and cost of these together, in words."""
    now = timezone.now()
    parts = []
    starts = [forecast.start for forecast in forecasts if forecast.start]
    finishes = [forecast.finish for forecast in forecasts if forecast.finish]
    if len(finishes) == len(starts) == len(forecasts):
        parts.append(_about(max(finishes) - min(starts)))
        wait = min(starts) - now
        parts.append("starts at once" if wait < timedelta(seconds=1.5) else f"starts in {_about(wait)}")
    else:
        parts.append(forecasts[0].reason.removesuffix("."))
    limit = limits.user_limits(user).daily_cost
    at_most = "" if size_is_known else "at most "
    cost = f"costs {at_most}{_few_digits(sum(draft.cost for draft in drafts))}"
    if limit is not None:
        cost += f" of the {max(0.0, limit - limits.spent(user, now)):.0f} left today"
    return " · ".join([*parts, cost])


def _few_digits(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _about(time: timedelta) -> str:
    count = max(1, round(time.total_seconds()))
    return f"about {count} s" if count < 10 else f"about {display.seconds(count)}"


def _snippets(
    request: HttpRequest, parameters: ImageToImageParameters, stored: StoredPicture | None, filename: str
) -> dict[str, str]:
    dumped = parameters.model_dump(mode="json", exclude_defaults=True)
    fields = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in dumped.items()}
    url = request.build_absolute_uri(reverse("image-to-image"))
    picture = filename or ("input." + str(stored.file.name).rpartition(".")[2] if stored else "picture.jpg")
    picture_url = request.build_absolute_uri(stored.file.url) if stored else ""
    return {
        "curl": snippets.curl(url, fields, picture, picture_url),
        "python": snippets.python(url, fields, picture, picture_url),
    }
