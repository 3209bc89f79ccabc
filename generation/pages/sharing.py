"""Share links of the user: create, list and revoke them."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import came_from, current_user, whole_number
from generation.library import sharing
from generation.library.sharing import Choices
from generation.models import Album, GeneratedImage, Generation, ShareLink
from generation.pages.caching import revalidated

PAGE_SIZE = 48
STUDIO_DURATION = timedelta(days=7)
"""How long a link works that is created in the studio, where nothing is asked."""

_MAX_PAGE = 99_999
_MAX_RESULTS = 1000


class AlbumShareForm(forms.Form):
    """The form for a new link to an album: for how long, and whether it shows the prompts."""

    days = forms.TypedChoiceField(
        label="Works for",
        choices=[("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("0", "ever, until revoked")],
        coerce=int,
        initial="7",
    )
    with_recipe = forms.BooleanField(label="With prompts", required=False)

    def duration(self) -> timedelta | None:
        """Return how long the link works, None for a link that does not expire."""
        return timedelta(days=self.cleaned_data["days"]) if self.cleaned_data["days"] else None


class ShareForm(AlbumShareForm):
    """The form for a new link to a picture: to which one, for how long, and what it shows."""

    picture = forms.IntegerField(min_value=1, widget=forms.HiddenInput)
    with_input = forms.BooleanField(label="Before and after", required=False)
    with_recipe = forms.BooleanField(label="With prompt, seed and values", required=False)
    with_download = forms.BooleanField(label="With a download button", required=False)

    field_order = ("picture", "days", "with_input", "with_recipe", "with_download")

    def choices(self) -> Choices:
        """Return what the link shows beside the picture."""
        names = ("with_recipe", "with_input", "with_download")
        return Choices(**{name: self.cleaned_data[name] for name in names})


@login_required
@require_POST
def share(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Create a link to a result of the user; `picture` counts from 1. htmx gets the links of the page, the new one first."""
    generation = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    form = ShareForm(request.POST)
    if not form.is_valid():
        messages.error(request, "No link was created: choose a picture and a duration in the form.")
        return redirect(came_from(request) or reverse("generation", args=[generation.pk]))
    image = get_object_or_404(generation.images.all(), index=form.cleaned_data["picture"] - 1)
    problem, link = "", None
    try:
        link = sharing.share(generation, image.index, form.duration(), form.choices())
    except sharing.TooManyLinks:
        problem = _too_many("it")
    if "HX-Request" in request.headers:
        page = came_from(request) or reverse("generation", args=[generation.pk])
        context = {
            "generation": generation,
            "images": list(generation.images.all()),
            **share_context(request, generation, image, page),
            "is_share_open": True,
            "new_link": link,
            "problem": problem,
        }
        return render(request, "generation/_share_links.html", context)
    if problem:
        messages.error(request, problem)
    return redirect(_back(request, generation.pk, image.index))


@login_required
@require_POST
def share_job(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Answer with the links to a generation as the studio shows them; `picture` counts from 1.

    The first one is to be copied: the newest that shows this result alone, which is created if there is none.
    """
    generation = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    number = whole_number(request.POST.get("picture", ""), _MAX_RESULTS)
    image = get_object_or_404(generation.images.all(), index=(number or 0) - 1)
    problem = ""
    link = sharing.live_links(generation).filter(index=image.index, **asdict(Choices())).first()
    try:
        link = link or sharing.share(generation, image.index, STUDIO_DURATION)
    except sharing.TooManyLinks:
        problem = _too_many("it")
    return _render_job_links(request, generation, {"new_link": link, "problem": problem})


@login_required
@require_POST
def share_album(request: HttpRequest, album_id: UUID) -> HttpResponse:
    """Create a link to an album of the user. htmx gets the links of the page, the new one first."""
    album = get_object_or_404(Album, pk=album_id, user=current_user(request))
    form = AlbumShareForm(request.POST)
    if not form.is_valid():
        messages.error(request, "No link was created: choose a duration in the form.")
        return redirect("album", album.pk)
    problem, link = "", None
    try:
        link = sharing.share_album(album, form.duration(), form.cleaned_data["with_recipe"])
    except sharing.TooManyLinks:
        problem = _too_many("this album")
    if "HX-Request" in request.headers:
        context = {**share_album_context(request, album), "is_share_open": True, "new_link": link, "problem": problem}
        return render(request, "generation/_share_links.html", context)
    if problem:
        messages.error(request, problem)
    return redirect("album", album.pk)


@revalidated
@login_required
@require_safe
def links(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's links that work, newest first; `page` counts from 1."""
    page = whole_number(request.GET.get("page", ""), _MAX_PAGE) or 1
    start = (page - 1) * PAGE_SIZE
    rows = sharing.working_links(current_user(request)).select_related("generation", "album")
    found = list(rows.prefetch_related("generation__images")[start : start + PAGE_SIZE + 1])
    context = {
        "links": [(link, _image(link)) for link in found[:PAGE_SIZE]],
        "newer": page - 1,
        "older": page + 1 if len(found) > PAGE_SIZE else None,
        "page_url": request.get_full_path(),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/links.html", context)


@login_required
@require_POST
def revoke(request: HttpRequest, link_id: int) -> HttpResponse:
    """Revoke a link of the user. htmx, which is the studio, gets the other links to the generation."""
    link = get_object_or_404(ShareLink, pk=link_id, user=current_user(request))
    sharing.revoke(ShareLink.objects.filter(pk=link.pk))
    if link.generation and "HX-Request" in request.headers:
        return _render_job_links(request, link.generation, {})
    messages.success(request, "The link was revoked.")
    page = came_from(request)
    if link.generation_id and urlsplit(page).path == reverse("generation", args=[link.generation_id]):
        return redirect(_back(request, link.generation_id, link.index))
    return redirect(page or reverse("links"))


def share_context(request: HttpRequest, generation: Generation, image: GeneratedImage, page_url: str) -> dict[str, Any]:
    """Return what the links of a generation's page need, with the form for a new link to this result."""
    return {
        "number": image.index + 1,
        "share_url": reverse("share", args=[generation.pk]),
        "share_links": sharing.live_links(generation),
        "share_form": ShareForm(initial={"picture": image.index + 1}),
        "page_url": page_url,
        "site_url": request.build_absolute_uri("/")[:-1],
    }


def share_album_context(request: HttpRequest, album: Album) -> dict[str, Any]:
    """Return what the links of an album's page need, with the form for a new one."""
    return {
        "album": album,
        "share_url": reverse("share-album", args=[album.pk]),
        "share_links": sharing.live_links(album),
        "share_form": AlbumShareForm(),
        "page_url": reverse("album", args=[album.pk]),
        "site_url": request.build_absolute_uri("/")[:-1],
    }


def _render_job_links(request: HttpRequest, generation: Generation, new: dict[str, Any]) -> HttpResponse:
    """Render the links to a generation for the studio. `new` has the link to copy and why there is none, if there is one."""
    context = {
        "generation": generation,
        "images": list(generation.images.all()),
        "share_links": sharing.live_links(generation),
        "page_url": reverse("home"),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/_job_links.html", context | new)


def _image(link: ShareLink) -> GeneratedImage | None:
    """Return the picture of a link whose images are prefetched; None for an album, and if it was removed."""
    images = link.generation.images.all() if link.generation else []
    return next((image for image in images if image.index == link.index and image.file), None)


def _too_many(target: str) -> str:
    return f"No link was created: {sharing.MAX_LIVE} links to {target} work already. Revoke one first."


def _back(request: HttpRequest, generation_id: UUID, index: int) -> str:
    """Return the address of the generation's page that shows this result, with the share links open."""
    query = QueryDict(urlsplit(came_from(request)).query, mutable=True)
    query["picture"], query["sharing"] = str(index + 1), ""
    return f"{reverse('generation', args=[generation_id])}?{query.urlencode()}#share"
