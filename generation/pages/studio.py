"""The studio: a picture, words, and what comes of them. Everything works as a plain form; a script makes it live."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
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

from accounts import request_ids
from accounts.models import User
from generation import capabilities, display
from generation.images.uploads import Upload
from generation.jobs import (
    contact_sheets,
    idempotency,
    limits,
    submission,
)
from generation.jobs.forecast import Forecast
from generation.library.stored import Stored
from generation.models import (
    ContactSheet,
    DiffusionModel,
    Generation,
    State,
)
from generation.pages import (
    sheets,
    snippets,
    studio_form,
)
from generation.pages.caching import revalidated
from generation.parameters import ImageToImageParameters, InvalidField, OutputFormat
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
    """The form, what of one's own still runs, and the last results; `POST` asks for pictures or a contact sheet."""
    user = cast(User, request.user)
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
    """What the form, whose picture need not be sent, would cost and take; and itself as programs send it. JSON.

    `sheet` says the same of the contact sheet that it describes, if it does.
    """
    user = cast(User, request.user)
    texts = studio_form.texts_of(request.POST)
    answer: dict[str, Any] = {"words": "", "sheet": "", "warnings": [], "errors": {}}
    try:
        asked = studio_form.read(user, request.POST, request.FILES, texts)
        known = asked.stored.size if asked.stored else studio_form.size_of(request.POST)
        answer |= _snippets(request, asked.parameters, asked.stored, request.POST.get("filename", ""))
        draft = submission.build(user, None, asked.parameters, None, size=known)
        answer["warnings"] = draft.warnings
        answer["sheet"] = _sheet_expected(user, request.POST, texts, known)
        answer["words"] = _expected(user, [draft], [submission.estimate(draft)], is_known=known is not None)
    except studio_form.Refused as refused:
        answer["errors"] = refused.errors
    except studio_form.REFUSALS as error:
        answer["errors"] = studio_form.refusal(error).errors
    except ObjectDoesNotExist:
        raise Http404 from None
    return JsonResponse(answer)


@revalidated
@login_required
@require_safe
def job(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """One of one's own generations as the studio shows it, for the script to put in place."""
    rows = Generation.objects.owned_by(request.user).prefetch_related("images")
    return render(request, "generation/_job.html", {"generation": get_object_or_404(rows, pk=generation_id)})


@never_cache
@require_safe
def events(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """The present of one's own generation, from which the waiting layer makes its stream of events."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Sign in again."}, status=403)
    rows = Generation.objects.owned_by(request.user).select_related("user").prefetch_related("images")
    found = get_object_or_404(rows, pk=generation_id)
    absolute = request.build_absolute_uri
    return JsonResponse({"origin": absolute("/"), "record": records([found], absolute)[0]})


def _post(request: HttpRequest, user: User) -> HttpResponse:
    is_scripted = request.headers.get("X-Requested-With") == "fetch"
    values = {name: str(text) for name, text in request.POST.items() if name != "csrfmiddlewaretoken"}
    texts = studio_form.texts_of(request.POST)
    if "switch" in request.POST:
        again: studio_form.Errors = {"image": [_CHOOSE_AGAIN]} if request.FILES.get("image") else {}
        return _page(request, user, values, _kept(user, values), again, before=values.pop("was", ""))
    try:
        # Who may not ask for more costs no decoding of a picture.
        limits.check(user, 0.0)
        asked = studio_form.read(user, request.POST, request.FILES, texts)
        if "explore" in request.POST:
            target = reverse("sheet", args=[_explore(request, user, asked, texts).pk])
            return JsonResponse({"location": target}, status=201) if is_scripted else redirect(target)
        made = _generate(request, user, asked)
    except studio_form.Refused as error:
        refused = error
    except studio_form.REFUSALS as error:
        refused = studio_form.refusal(error)
    else:
        if is_scripted:
            made = Generation.objects.prefetch_related("images").get(pk=made.pk)
            return render(request, "generation/_job.html", {"generation": made}, status=201)
        return redirect("generation", made.pk)
    if is_scripted:
        return JsonResponse({"errors": refused.errors}, status=refused.status)
    if request.FILES.get("image"):
        refused.errors.setdefault("image", []).append(_CHOOSE_AGAIN)
    response = _page(request, user, values, _kept(user, values), refused.errors)
    response.status_code = refused.status
    return response


def _generate(request: HttpRequest, user: User, asked: studio_form.Asked) -> Generation:
    picture = asked.picture()
    attempt = _attempt(request, user, asked, picture)
    if attempt and (earlier := attempt.earlier()):
        return earlier
    draft = submission.build(
        user, None, asked.parameters, picture, request_id=request_ids.current(), source_id=asked.source_id
    )
    return submission.submit(draft, picture, attempt)


def _explore(request: HttpRequest, user: User, asked: studio_form.Asked, texts: Mapping[str, str]) -> ContactSheet:
    columns, rows = _axes(request.POST)
    if columns is None:
        raise InvalidField("columns", "Choose what varies along the columns, and its values")
    picture = asked.picture()
    attempt = _attempt(request, user, asked, picture, f"{columns} {rows}")
    if attempt and (earlier := attempt.earlier()) and earlier.contact_sheet:
        return earlier.contact_sheet
    return contact_sheets.explore(
        user,
        texts,
        picture,
        columns,
        rows,
        source_id=asked.source_id,
        request_id=request_ids.current(),
        attempt=attempt,
    )


def _axes(post: QueryDict) -> tuple[contact_sheets.Axis | None, contact_sheets.Axis | None]:
    """Raises `InvalidField`."""
    columns = contact_sheets.axis("columns", post.get("columns_field", ""), post.get("columns", ""))
    return columns, contact_sheets.axis("rows", post.get("rows_field", ""), post.get("rows", ""))


def _attempt(
    request: HttpRequest, user: User, asked: studio_form.Asked, picture: Upload, varied: str = ""
) -> idempotency.IdempotentRequest | None:
    """What makes a double click one request. A form that was changed and sent again is another one."""
    nonce = request.POST.get("key", "")[:64]
    if not nonce:
        return None
    digest = f"{picture.sha256} {picture.size}"
    fingerprint = idempotency.fingerprint(f"studio {nonce} {varied}", asked.parameters, digest)
    return idempotency.IdempotentRequest(user, None, fingerprint, fingerprint)


def _prefilled(user: User, query: Mapping[str, Any]) -> tuple[dict[str, str], Stored | None, studio_form.Errors]:
    """The values of the form that an address asks for, its stored picture, and why that cannot be used."""
    values: dict[str, str] = {}
    if query.get("refused") == "size":
        most = settings.MAX_UPLOAD_BYTES / 2**20
        return values, None, {"image": [f"The picture was too large; choose one of less than {most:.0f} MB."]}
    try:
        kept = studio_form.stored_choice(user, query)
    except InvalidField as error:
        return values, None, studio_form.refusal(error).errors
    if kept and query.get("from"):
        values = studio_form.values_of(kept.generation)
        mode = query.get("mode", "remix")
        if mode not in MODES:
            raise Generation.DoesNotExist
        seeds = kept.generation.get_recipe().seeds
        values["seed"] = {"remix": "", "exact": str(seeds[0]), "vary": str(seeds[-1] + 1)}[mode]
    for name in ("from", "source", "image"):
        if kept and query.get(name):
            values[name] = str(query[name])
    for name in ("prompt", "model_id"):
        if query.get(name):
            values[name] = str(query[name])
    return values, kept, {}


def _kept(user: User, values: Mapping[str, Any]) -> Stored | None:
    try:
        return studio_form.stored_choice(user, values)
    except InvalidField:
        return None


def _page(
    request: HttpRequest,
    user: User,
    values: Mapping[str, str],
    kept: Stored | None,
    errors: studio_form.Errors,
    before: str = "",
) -> HttpResponse:
    """The form with these values; those that the model `before` began with become those that the chosen one begins with."""
    models = [capabilities.described(row) for row in DiffusionModel.objects.allowed_to(user).listed()]
    own = Generation.objects.owned_by(user)
    context: dict[str, Any] = {"models": models, "stored": kept}
    if models:
        chosen = _chosen(models, values.get("model_id") or user.default_model)
        errors = {**studio_form.unavailable(chosen, values), **errors}
        loras = studio_form.loras(models, chosen, values)
        if before:
            untouched = studio_form.starting_values(_chosen(models, before))
            values = {name: value for name, value in values.items() if untouched.get(name) != value}
        values = {**studio_form.starting_values(chosen), **values, "model_id": chosen.id}
        context |= {
            "values": values,
            "current_model": chosen,
            "sliders": studio_form.sliders(chosen, values, errors),
            "loras": loras,
            "uses_loras": any(lora.weight and lora.fits for lora in loras),
            "model_behaviour": studio_form.behaviour(models),
            "negative_has_effect": chosen.parameters["negative_prompt"].has_effect,
            "max_images": chosen.parameters["num_images_per_prompt"].maximum,
            "max_characters": studio_form.limit_of("prompt"),
            "axis_fields": [(name, sheets.LABELS[name], _has_effect(chosen, name)) for name in contact_sheets.FIELDS],
            "formats": list(OutputFormat),
            "max_cells": contact_sheets.MAX_CELLS,
            "key": get_random_string(22),
            "max_bytes": settings.MAX_UPLOAD_BYTES,
        }
    recent = own.filter(state=State.SUCCEEDED, contact_sheet=None)
    live = own.live().filter(contact_sheet=None).prefetch_related("images")
    context |= {
        "errors": {**errors, "general": errors.get("", [])},
        "recent_prompts": own.last_prompts(PROMPTS_SHOWN),
        "jobs": list(live[:LIVE_SHOWN]),
        "recent": list(recent.order_by("-pk").prefetch_related("images")[:RECENT_SHOWN]),
        "sheets": [(one, sheets.title(one)) for one in ContactSheet.objects.filter(user=user).lately(SHEETS_SHOWN)],
    }
    return render(request, "generation/studio.html", context)


def _has_effect(model: ModelDescription, name: str) -> bool:
    """Whether the model does anything with this field: always with the prompt, and its own name."""
    return name not in model.parameters or model.parameters[name].has_effect


def _chosen(models: list[ModelDescription], wanted: str) -> ModelDescription:
    """The model of this name, or the one that requests without a name get."""
    return next((model for model in models if model.id == wanted), models[0])


def _sheet_expected(user: User, post: QueryDict, texts: Mapping[str, str], size: tuple[int, int] | None) -> str:
    """Time and cost of the contact sheet of the form, or what is wrong with it; empty where it describes none."""
    try:
        columns, rows = _axes(post)
        if columns is None:
            return ""
        cells = contact_sheets.drafts(user, texts, None, columns, rows, size=size)
        return _expected(user, cells, submission.estimate_together(cells), is_known=size is not None)
    except studio_form.REFUSALS as error:
        return " ".join(words for beside in studio_form.refusal(error).errors.values() for words in beside)


def _expected(user: User, drafts: Sequence[Generation], expected: Sequence[Forecast], *, is_known: bool) -> str:
    """Time and cost of these together, in words."""
    now = timezone.now()
    parts = []
    starts, ends = [one.start for one in expected if one.start], [one.finish for one in expected if one.finish]
    if len(ends) == len(starts) == len(expected):
        parts.append(_about(max(ends) - min(starts)))
        waits = min(starts) - now
        parts.append("starts at once" if waits < timedelta(seconds=1.5) else f"starts in {_about(waits)}")
    else:
        parts.append(expected[0].reason.removesuffix("."))
    limit = limits.user_limits(user).daily_cost
    at_most = "" if is_known else "at most "
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
    request: HttpRequest, parameters: ImageToImageParameters, kept: Stored | None, filename: str
) -> dict[str, str]:
    dumped = parameters.model_dump(mode="json", exclude_defaults=True)
    fields = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in dumped.items()}
    url = request.build_absolute_uri(reverse("image-to-image"))
    picture = filename or ("input." + str(kept.file.name).rpartition(".")[2] if kept else "picture.jpg")
    picture_url = request.build_absolute_uri(kept.file.url) if kept else ""
    return {
        "curl": snippets.curl(url, fields, picture, picture_url),
        "python": snippets.python(url, fields, picture, picture_url),
    }
