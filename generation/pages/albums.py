"""The user's albums: list, create, rename and delete them, add to them, take out of them, choose a cover."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.requests import current_user, parse_uuid
from generation.library import albums
from generation.models import Album, AlbumEntry, Generation
from generation.pages.bulk_actions import bulk_result, read_selection
from generation.pages.caching import revalidated
from generation.pages.sharing import share_album_context


class AlbumForm(forms.ModelForm[Album]):
    """The name of an album."""

    class Meta:
        model = Album
        fields = ("name",)
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Name"})}


@revalidated
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def album_list(request: HttpRequest) -> HttpResponse:
    """Show the user's albums. `POST` creates one and shows its page."""
    user = current_user(request)
    form = AlbumForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            return redirect("album", albums.create(user, form.cleaned_data["name"]).pk)
        except albums.AlbumRefused as refusal:
            form.add_error("name", str(refusal))
    rows = list(Album.objects.filter(user=user).with_covers())
    covers = albums.covers(rows)
    context = {"albums": [(album, covers.get(album.pk)) for album in rows], "form": form}
    return render(request, "generation/albums.html", context, status=422 if form.errors else 200)


@revalidated
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def album(request: HttpRequest, album_id: UUID) -> HttpResponse:
    """Show the page of one of the user's albums: name, cover, links. `POST` renames it."""
    row = get_object_or_404(Album.objects.filter(user=current_user(request)).with_covers(), pk=album_id)
    form = AlbumForm(request.POST, instance=Album()) if request.method == "POST" else AlbumForm(instance=row)
    if form.is_valid():
        try:
            albums.rename(row, form.cleaned_data["name"])
        except albums.AlbumRefused as refusal:
            form.add_error("name", str(refusal))
        else:
            messages.success(request, "The album was renamed.")
            return redirect("album", row.pk)
    context = {
        **share_album_context(request, row),
        "form": form,
        "cover": albums.covers([row]).get(row.pk),
    }
    return render(request, "generation/album.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def delete(request: HttpRequest, album_id: UUID) -> HttpResponse:
    """Delete one of the user's albums and its links. What is in it stays."""
    row = _album_or_404(request, album_id)
    row.delete()
    messages.success(request, f"The album “{row.name}” was deleted. Its pictures are still in the history.")
    return redirect("albums")


@login_required
@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Add the selection to the user's `album`, or to a new one with the name `new_album`."""
    user = current_user(request)
    selection = read_selection(request)
    if selection is None:
        return bulk_result(request, Generation.objects.none())
    album_id = request.POST.get("album")
    try:
        if album_id is not None:
            pk = parse_uuid(album_id)
            row = _album_or_404(request, pk) if pk else None
        else:
            form = AlbumForm({"name": request.POST.get("new_album", "")})
            row = albums.create(user, form.cleaned_data["name"]) if form.is_valid() else None
        if row is None:
            messages.error(request, "Choose an album, or give a new one a name of at most 100 characters.")
        else:
            count = albums.add(row, selection.ids)
            messages.success(request, f"{_number(count)} added to “{row.name}”." if count else _present(row))
    except albums.AlbumRefused as refusal:
        messages.error(request, str(refusal))
    mine = Album.objects.filter(user=user) if album_id is None else ()
    return bulk_result(request, selection.shown, albums=list(mine))


@login_required
@require_POST
def remove(request: HttpRequest, album_id: UUID) -> HttpResponse:
    """Take the selection out of one of the user's albums."""
    row = _album_or_404(request, album_id)
    selection = read_selection(request)
    if selection is None:
        return bulk_result(request, Generation.objects.none())
    count = albums.remove(row, selection.ids)
    messages.success(request, f"{_number(count)} taken out of “{row.name}”.")
    return bulk_result(request, selection.shown, selection.shown_ids)


@login_required
@require_POST
def choose_cover(request: HttpRequest, album_id: UUID) -> HttpResponse:
    """Make the first of the selection the cover of one of the user's albums."""
    row = _album_or_404(request, album_id)
    selection = read_selection(request)
    if selection is None:
        return bulk_result(request, Generation.objects.none())
    if albums.choose_cover(row, selection.ids[0]):
        messages.success(request, f"It is the cover of “{row.name}”.")
    else:
        messages.error(request, "Choose one with a picture that is in the album.")
    return bulk_result(request, selection.shown)


def menu_context(request: HttpRequest, generation: Generation) -> dict[str, Any]:
    """Return the user's albums, and which of them this generation is in, for its page."""
    is_in = Exists(AlbumEntry.objects.filter(album=OuterRef("pk"), generation=generation))
    mine: list[Any] = list(Album.objects.filter(user=current_user(request)).annotate(is_in=is_in))
    return {"albums": mine, "album_count": sum(row.is_in for row in mine)}


def _album_or_404(request: HttpRequest, album_id: UUID) -> Album:
    return get_object_or_404(Album, pk=album_id, user=current_user(request))


def _number(count: int) -> str:
    return "One was" if count == 1 else f"{count} were"


def _present(row: Album) -> str:
    return f"“{row.name}” has that already."
