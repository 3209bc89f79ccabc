"""Edit the title and the note of a generation."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.requests import came_from
from generation.library import search
from generation.models import Generation

MAX_NOTE = 4000
"""Most characters of a note."""


class NoteForm(forms.ModelForm[Generation]):
    """Title and note; both may be empty."""

    note = forms.CharField(required=False, max_length=MAX_NOTE, widget=forms.Textarea(attrs={"rows": 4}))

    class Meta:
        model = Generation
        fields = ("title", "note")
        widgets = {"title": forms.TextInput(attrs={"autocomplete": "off"})}


@login_required
@require_POST
def annotate(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Save title and note of one of the user's generations, or show the form again with its errors."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    generation = get_object_or_404(rows)
    page = came_from(request) or reverse("generation", args=[generation_id])
    form = NoteForm(request.POST, instance=Generation())
    if form.is_valid():
        with transaction.atomic():
            # Only these columns: a worker may be writing to the others.
            rows.update(**form.cleaned_data)
            generation = rows.get()
            search.index(generation)
        form = NoteForm(instance=generation)
        if "HX-Request" not in request.headers:
            messages.success(request, "Title and note are saved.")
            return redirect(page)
    context = {"generation": generation, "notes_form": form, "is_saved": not form.is_bound, "page_url": page}
    if "HX-Request" in request.headers:
        return render(request, "generation/_notes.html", context)
    return render(request, "generation/notes.html", context, status=422)
