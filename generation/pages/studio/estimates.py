"""The estimate of the studio's form: time, cost, warnings, and the same request as code."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404, HttpRequest, JsonResponse, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.requests import current_user
from generation import display
from generation.images.inputs import Inputs
from generation.inpainting import Box
from generation.jobs import contact_sheets, limits, submission
from generation.jobs.forecast import Forecast
from generation.library.stored import StoredPicture
from generation.models import Generation
from generation.pages.studio import form, models, snippets
from generation.pages.studio.form import StudioRequest
from generation.parameters import ImageToImageParameters, Refusal

_AT_ONCE = timedelta(seconds=1.5)
"""A shorter wait counts as none."""


@never_cache
@login_required
@require_POST
def estimate(request: HttpRequest) -> JsonResponse:
    """Answer with the estimate of the form, and that of its contact sheet as `sheet`. The picture need not be sent."""
    user = current_user(request)
    fields = form.parameter_fields(request.POST)
    content: dict[str, Any] = {"words": "", "sheet": "", "warnings": [], "prompt_warnings": [], "errors": {}}
    try:
        # A picture is not decoded for its estimate; the page's script says its size.
        submitted = form.read(user, request.POST, MultiValueDict(), fields)
        size, open_box = _open_picture(submitted, request.POST)
        content |= _snippets(request, submitted.parameters, submitted.stored, request.POST.get("filename", ""))
        draft = submission.build(submission.Request(user, None, submitted.parameters, Inputs(), size, open_box))
        content["warnings"] = draft.warnings
        content["prompt_warnings"] = models.unknown_words(draft.model_id, draft.prompt)
        content["sheet"] = _sheet_summary(user, request.POST, fields, size, open_box)
        content["words"] = _summary(user, [draft], [submission.estimate(draft)], is_size_known=size is not None)
    except Refusal as refusal:
        content["errors"] = form.form_errors(refusal)
    except ObjectDoesNotExist:
        raise Http404 from None
    return JsonResponse(content)


def _open_picture(submitted: StudioRequest, post: QueryDict) -> tuple[tuple[int, int] | None, Box | None]:
    """Return the size of the form's picture and what of it the mask lets change, as far as they are known."""
    size = submitted.stored.size if submitted.stored else form.picture_size(post)
    box = form.open_box(post)
    if box and size:
        box = (min(box[0], size[0] - 1), min(box[1], size[1] - 1), min(box[2], size[0]), min(box[3], size[1]))
    return size, box if size else None


def _sheet_summary(
    user: User, post: QueryDict, fields: Mapping[str, str], size: tuple[int, int] | None, open_box: Box | None
) -> str:
    """Return time and cost of the form's contact sheet, or its errors, as text; empty if the form has none."""
    try:
        grid = form.grid(post)
        if grid is None:
            return ""
        cells = contact_sheets.drafts(user, fields, Inputs(), grid, size, open_box)
        return _summary(user, cells, submission.estimate_together(cells), is_size_known=size is not None)
    except Refusal as refusal:
        return " ".join(message for messages in form.form_errors(refusal).values() for message in messages)


def _summary(user: User, drafts: Sequence[Generation], forecasts: Sequence[Forecast], *, is_size_known: bool) -> str:
    """Return time and cost of these generations together, such as `about 8 s · starts at once · costs 4.2`."""
    now = timezone.now()
    limit = limits.user_limits(user).daily_cost
    at_most = "" if is_size_known else "at most "
    cost = f"costs {at_most}{_few_digits(sum(draft.cost for draft in drafts))}"
    if limit is not None:
        cost += f" of the {max(0.0, limit - limits.spent(user, now)):.0f} left today"
    return " · ".join([*_times(forecasts, now), cost])


def _times(forecasts: Sequence[Forecast], now: datetime) -> list[str]:
    """Return the duration and the wait, or the reason why they are unknown."""
    starts = [forecast.start for forecast in forecasts if forecast.start]
    finishes = [forecast.finish for forecast in forecasts if forecast.finish]
    if not len(finishes) == len(starts) == len(forecasts):
        return [forecasts[0].reason.removesuffix(".")]
    wait = min(starts) - now
    return [_about(max(finishes) - min(starts)), "starts at once" if wait < _AT_ONCE else f"starts in {_about(wait)}"]


def _few_digits(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _about(duration: timedelta) -> str:
    seconds = max(1, round(duration.total_seconds()))
    return f"about {seconds} s" if seconds < 10 else f"about {display.seconds(seconds)}"


def _snippets(
    request: HttpRequest, parameters: ImageToImageParameters, stored: StoredPicture | None, filename: str
) -> dict[str, str]:
    """Return the request as code, by language."""
    values = parameters.model_dump(mode="json", exclude_defaults=True)
    fields = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    url = request.build_absolute_uri(reverse("image-to-image"))
    picture = filename or ("input." + str(stored.file.name).rpartition(".")[2] if stored else "picture.jpg")
    picture_url = request.build_absolute_uri(stored.file.url) if stored else ""
    return {
        "curl": snippets.curl(url, fields, picture, picture_url),
        "python": snippets.python(url, fields, picture, picture_url),
    }
