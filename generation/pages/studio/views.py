"""The studio's views: show the form, submit it, and show the progress of what it submitted."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import Access
from accounts.models import User
from accounts.requests import current_user
from generation.images.inputs import Inputs
from generation.jobs import contact_sheets, idempotency, limits, submission
from generation.library.stored import StoredPicture, picture_at
from generation.models import ContactSheet, Generation
from generation.pages.caching import revalidated
from generation.pages.studio import form, page
from generation.pages.studio.form import StudioRequest
from generation.parameters import InvalidField, Refusal
from generation.serializers import records

_MAX_ADDRESSES = 8
"""The most addresses of one drop that are looked at."""


@revalidated
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def studio(request: HttpRequest) -> HttpResponse:
    """Show the form and the user's last generations. `POST` submits a request or a contact sheet, or switches the model."""
    user = current_user(request)
    try:
        if request.method != "POST":
            return page.render_query(request, user)
        if "switch_model" in request.POST:
            # Without scripts, a button shows the parameters of another model.
            return page.render_posted(request, user, {}, previous_model=request.POST.get("previous_model", ""))
        return _submit(request, user)
    except ObjectDoesNotExist:
        raise Http404 from None


@revalidated
@login_required
@require_safe
def job(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Render one of the user's generations as the studio shows it; the script replaces the previous rendering."""
    rows = Generation.objects.owned_by(request.user).prefetch_related("images")
    return render(request, "generation/_job.html", {"generation": get_object_or_404(rows, pk=generation_id)})


@csrf_exempt
@never_cache
def receive(request: HttpRequest) -> HttpResponse:
    """Lead to the studio from where the browser takes shared pictures, if its service worker is gone and did not take one.

    The request is not read: it has no CSRF token, since a phone makes it.
    """
    return redirect(f"{reverse('home')}?received")


@never_cache
@login_required
@require_POST
def stored_picture(request: HttpRequest) -> HttpResponse:
    """Render the form's picture as one of the user's own: that of the first `address` that shows one, or as in the form.

    Answers 204 if it is none of theirs, and 422 if it cannot be used.
    """
    user = current_user(request)
    try:
        stored = _shown_at(user, request.POST.getlist("address")[:_MAX_ADDRESSES]) or form.stored_choice(
            user, request.POST
        )
    except ObjectDoesNotExist:
        stored = None
    except InvalidField as error:
        return JsonResponse({"errors": form.form_errors(error)}, status=422)
    if stored is None:
        return HttpResponse(status=204)
    return render(request, "generation/_picture_input.html", {"stored": stored, **page.picture_context()})


@never_cache
@require_safe
def events(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Answer with the record of one of the user's generations, from which the ASGI layer makes its stream of events."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Sign in again."}, status=403)
    rows = Generation.objects.owned_by(request.user).select_related("user").prefetch_related("images", "references")
    generation = get_object_or_404(rows, pk=generation_id)
    absolute = request.build_absolute_uri
    access = asdict(Access(generation.user_id, session_key=request.session.session_key))
    return JsonResponse({"origin": absolute("/"), "record": records([generation], absolute, None)[0], "access": access})


def _shown_at(user: User, addresses: Sequence[str]) -> StoredPicture | None:
    """Return the first picture of this user that one of the addresses shows. Raises `InvalidField` if it cannot be used."""
    for address in addresses:
        with suppress(ObjectDoesNotExist):
            return picture_at(user, address)
    return None


def _submit(request: HttpRequest, user: User) -> HttpResponse:
    is_scripted = request.headers.get("X-Requested-With") == "fetch"
    fields = form.parameter_fields(request.POST)
    try:
        # Before the upload is decoded.
        limits.check(user, 0.0)
        submitted = form.read(user, request.POST, request.FILES, fields)
        if "contact_sheet" in request.POST:
            address = reverse("sheet", args=[_submit_sheet(request, user, submitted, fields).pk])
            return JsonResponse({"location": address}, status=201) if is_scripted else redirect(address)
        generation = _submit_generation(request, user, submitted)
    except Refusal as refusal:
        errors, status = form.form_errors(refusal), refusal.code.status
        response: HttpResponse = (
            JsonResponse({"errors": errors}, status=status)
            if is_scripted
            else page.render_posted(request, user, errors, status=status)
        )
        response.error_code = refusal.code  # type: ignore[attr-defined]
        return response
    if not is_scripted:
        return redirect("generation", generation.pk)
    generation = Generation.objects.prefetch_related("images").get(pk=generation.pk)
    return render(request, "generation/_job.html", {"generation": generation}, status=201)


def _submit_generation(request: HttpRequest, user: User, submitted: StudioRequest) -> Generation:
    inputs, warnings = submitted.inputs()
    details = submission.Request(
        user, None, submitted.parameters, inputs, warnings=warnings, source_id=submitted.source_id
    )
    idempotent = _idempotent(request, user, submitted, inputs)
    return submission.submit_once(lambda: [submission.build(details)], inputs, idempotent)


def _submit_sheet(
    request: HttpRequest, user: User, submitted: StudioRequest, fields: Mapping[str, str]
) -> ContactSheet:
    grid = form.grid(request.POST)
    if grid is None:
        raise InvalidField("columns", "Choose what varies along the columns, and its values")
    inputs, warnings = submitted.inputs()
    idempotent = _idempotent(request, user, submitted, inputs, f"{grid.columns} {grid.rows}")
    return contact_sheets.submit_once(user, fields, inputs, grid, submitted.source_id, idempotent, warnings)


def _idempotent(
    request: HttpRequest, user: User, submitted: StudioRequest, inputs: Inputs, axes: str = ""
) -> idempotency.IdempotentRequest | None:
    """Identify the request by the form's nonce and content, so that a double click submits it once. None without a nonce."""
    nonce = request.POST.get("key", "")[:64]
    if not nonce:
        return None
    fingerprint = idempotency.fingerprint(f"studio {nonce} {axes}", submitted.parameters, inputs.digest)
    return idempotency.IdempotentRequest(user, None, fingerprint, fingerprint)
