"""Generations in the admin: a searchable list, and a read-only page for each."""

import re
from contextlib import suppress
from json import dumps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from accounts.admin_tools.read_only import ReadOnlyAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from accounts.requests import whole_number
from generation import display
from generation.library import search, sharing
from generation.models import Generation, ReferencePicture, State
from generation.staff import generation_filters as filters
from generation.staff import timeline
from generation.staff.asked_and_used import comparisons
from generation.staff.generation_actions import GenerationActions
from generation.staff.generation_images import result_thumbnail, thumbnail
from generation.staff.generation_presets import presets
from generation.staff.paginator import CountlessPaginator
from generation.staff.viewing import name_of_list, record_page_view, record_view

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROMPT_CHARACTERS = 120
_MAX_PAGE = 10**9


@admin.register(Generation)
class GenerationAdmin(StrictLookupsMixin, ReadOnlyAdminMixin, GenerationActions):
    """Generations to read; only actions change them, since Django's own deletion would leave their files behind."""

    list_display = ("pictures", "short_prompt", "user_link", "model_name", "seeds", "flags", "status", "created_at")
    list_display_links = ("short_prompt",)
    list_filter = (
        filters.StateFilter,
        filters.FlaggedFilter,
        filters.ReviewStateFilter,
        filters.ModelFilter,
        filters.ErrorFilter,
        filters.DateFilter,
        filters.UserFilter,
        filters.TokenFilter,
        filters.LegalHoldFilter,
    )
    list_per_page = 50
    list_max_show_all = 0
    ordering = ("-id",)
    # Any other order would sort the whole table.
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("prompt",)
    search_help_text = "Words of the prompt, a username, an id, a seed, or the SHA-256 of the uploaded file."

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The page of a generation has a template of its own and no form."""
        return []

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[filters.GenerationList]:
        return filters.GenerationList

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Hide the token filter from staff who may not view tokens."""
        if _may_view_tokens(request):
            return self.list_filter
        return [list_filter for list_filter in self.list_filter if list_filter is not filters.TokenFilter]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Generation]:
        return super().get_queryset(request).select_related("user", "token", "source").prefetch_related("images")

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Generation], per_page: int, *args: Any, **kwargs: Any
    ) -> CountlessPaginator:
        return CountlessPaginator(queryset, per_page, whole_number(request.GET.get("p", ""), _MAX_PAGE) or 1)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Generation], search_term: str
    ) -> tuple[QuerySet[Generation], bool]:
        """Return the rows that match every word of the search; no row appears twice."""
        words = []
        for word in search_term.split():
            if (condition := _id_or_digest(word)) is not None:
                queryset = queryset.filter(condition)
            else:
                words.append(word)
        if not words:
            return queryset, False
        start, end = filters.period(request.GET.get(filters.DateFilter.parameter_name, "")) or (None, None)
        return search.search_all(queryset, " ".join(words), start, end), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, with presets: searches that staff often make."""
        context = {**(extra_context or {}), "presets": presets(request.GET)}
        response = super().changelist_view(request, context)
        if changelist := (getattr(response, "context_data", None) or {}).get("cl"):
            generations = changelist.result_list
            record_page_view(request, name_of_list(generations), generations)
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one generation; the parameter `picture` selects a result, counted from 1."""
        context = dict(extra_context or {})
        if generation := self.get_object(request, unquote(object_id)):
            prefetch_related_objects([generation], "references")
            if self.has_view_permission(request, generation):
                record_view(request, generation)
            images = list(generation.images.all())
            index = (whole_number(request.GET.get("picture", ""), len(images)) or 1) - 1
            context |= {
                "images": [(image, display.safety(image)) for image in images],
                "watermark": display.watermark(images),
                "upload_credentials": display.upload_credentials(generation),
                "result": images[index] if images else None,
                "number": index + 1,
                "state": display.state(generation),
                "mask_words": display.mask(generation),
                "references": list(generation.references.all()),
                "has_blurred_input": generation.has_flagged_input,
                "comparisons": comparisons(generation),
                "timings": [(part.name, display.seconds(part.seconds)) for part in display.timings(generation)],
                "events": timeline.events(generation),
                "proofs": [(proof, display.proof(proof)) for proof in generation.proofs.select_related("user")],
                "share_links": sharing.links_showing(generation, live=True),
                "may_view_tokens": _may_view_tokens(request),
                "recorded": [
                    (name, dumps(value, indent=1, ensure_ascii=False))
                    for name, value in (
                        ("Request", generation.parameters),
                        ("Recipe", generation.recipe),
                        ("Receipt", generation.receipt),
                    )
                    if value is not None
                ],
                **self._actions(request, generation),
            }
        return super().change_view(request, object_id, form_url, context)

    @admin.display
    def pictures(self, generation: Generation) -> SafeString:
        thumbnails = [thumbnail(generation.input_thumbnail, "Input", generation.has_flagged_input)]
        thumbnails += [result_thumbnail(image) for image in generation.images.all()]
        return format_html(
            '<div class="thumbnails">{}</div>', format_html_join("", "{}", ((each,) for each in thumbnails))
        )

    @admin.display(description="prompt")
    def short_prompt(self, generation: Generation) -> str:
        if generation.proves_id:
            return f"proof of {generation.proves_id}"
        return "deleted" if generation.deleted else Truncator(generation.prompt).chars(_PROMPT_CHARACTERS)

    @admin.display(description="user")
    def user_link(self, generation: Generation) -> SafeString:
        """A link to the user's generations."""
        name = generation.user.get_username()
        url = reverse("admin:generation_generation_changelist") + "?" + urlencode({"user": name})
        return format_html('<a href="{}" title="Generations of {}">{}</a>', url, name, name)

    @admin.display(description="model")
    def model_name(self, generation: Generation) -> str:
        return generation.model_id

    @admin.display
    def seeds(self, generation: Generation) -> str:
        """The first and the last seed; the seeds of a request are consecutive."""
        first, last = generation.recipe["seeds"][0], generation.recipe["seeds"][-1]
        return str(first) if first == last else f"{first} – {last}"

    @admin.display(empty_value="")
    def flags(self, generation: Generation) -> SafeString | str:
        images = generation.images.all()
        flagged = sum(image.nsfw for image in images)
        reviews = sorted({image.get_review_display() for image in images if image.review})
        if flagged:
            return format_html('<strong class="flag">{} flagged</strong><br>{}', flagged, ", ".join(reviews))
        if reviews:
            return format_html("<strong>not flagged</strong><br>{}", ", ".join(reviews))
        return "" if all(image.is_checked for image in images) else format_html("<span>{}</span>", "not checked")

    @admin.display(description="created")
    def created_at(self, generation: Generation) -> str:
        return f"{timezone.localtime(generation.created):%Y-%m-%d %H:%M}"

    @admin.display(description="state")
    def status(self, generation: Generation) -> str:
        return display.state(generation) + (", on legal hold" if generation.legal_hold else "")

    def _actions(self, request: HttpRequest, generation: Generation) -> dict[str, bool]:
        """Return which buttons the page has: those of actions that the user may do and that would change something."""
        is_whole = generation.deleted is None
        return {
            "can_retry": is_whole and generation.is_final and self.has_cancel_permission(request),
            "can_prove": is_whole and generation.state == State.SUCCEEDED and self.has_cancel_permission(request),
            "can_cancel": not generation.is_final and self.has_cancel_permission(request),
            "can_hold": is_whole and self.has_operate_permission(request),
            "can_delete": is_whole
            and generation.is_final
            and not generation.legal_hold
            and self.has_remove_permission(request),
            "can_review": is_whole and self.has_review_permission(request),
        }


def _may_view_tokens(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("accounts.view_apitoken"))


def _id_or_digest(word: str) -> Q | None:
    """Return the condition for a word that is an id or a SHA-256 digest, else None."""
    with suppress(ValueError):
        return Q(pk=UUID(word))
    if _SHA256.fullmatch(digest := word.lower()):
        # The exclusion lets the database use the partial index of rows with an input; an OR of both would use no index.
        inputs = Generation.objects.exclude(input_sha256="").filter(input_sha256=digest).order_by().values("pk")
        references = ReferencePicture.objects.filter(sha256=digest).order_by().values("generation")
        return Q(pk__in=inputs.union(references, all=True))
    return None
