"""Generations to look through, models and LoRAs to allow."""

import re
from contextlib import suppress
from json import dumps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.admin_tools.read_only import ReadOnlyAdminMixin
from accounts.admin_tools.strict_lookups import StrictLookupsMixin
from generation import display
from generation.library import search
from generation.models import GeneratedImage, Generation
from generation.staff import timeline
from generation.staff.generation_actions import GenerationActions
from generation.staff.generation_filters import (
    ByDate,
    ByError,
    Flagged,
    Held,
    OfToken,
    OfUser,
    Reviewed,
    period,
)

admin.site.site_header = "Dreamsite"
admin.site.site_title = "Dreamsite"
admin.site.index_title = "Administration"
# The lists need the width, and the breadcrumbs lead to the other tables.
admin.site.enable_nav_sidebar = False


_FLAG = SafeString(' class="flag"')
SHA256 = re.compile(r"[0-9a-f]{64}")


class CountlessPaginator(Paginator[Generation]):
    """Pages of a table too big to be counted: it knows of the rows up to the present page, and whether one follows."""

    object_list: QuerySet[Generation]

    def __init__(self, rows: QuerySet[Generation], per_page: int, page_number: int) -> None:
        super().__init__(rows, per_page)
        self.page_number = page_number

    @cached_property
    def count(self) -> int:
        before = (self.page_number - 1) * self.per_page
        rows = self.object_list.prefetch_related(None).values_list("pk")
        return before + len(rows[before : before + self.per_page + 1])


class GeneratedImageInline(ReadOnlyAdminMixin, admin.TabularInline[GeneratedImage, Generation]):
    model = GeneratedImage
    verbose_name_plural = "results"
    fields = ("picture", "its_seed", "size", "safety", "checker", "threshold")
    readonly_fields = fields

    @admin.display
    def picture(self, image: GeneratedImage) -> SafeString:
        return _shot(image.thumbnail, 64, 64, f"Result {image.index + 1}", image.nsfw)

    @admin.display(description="seed")
    def its_seed(self, image: GeneratedImage) -> SafeString:
        return format_html('<a href="?picture={}" title="Show this result">{}</a>', image.index + 1, image.seed)

    @admin.display
    def size(self, image: GeneratedImage) -> str:
        return f"{image.width} × {image.height}"

    @admin.display
    def safety(self, image: GeneratedImage) -> str:
        return display.safety(image)


@admin.register(Generation)
class GenerationAdmin(StrictLookupsMixin, GenerationActions, ReadOnlyAdminMixin, admin.ModelAdmin[Generation]):
    """Rows own files, which the admin's own deletion would leave behind: actions know what goes with them."""

    list_display = ("pictures", "what", "by", "model_name", "seeds", "flags", "state_in_words", "asked_at")
    list_display_links = ("what",)
    list_filter = ("state", Flagged, Reviewed, OfUser, OfToken, ByDate, ByError, Held, "model")
    list_per_page = 50
    list_max_show_all = 0
    ordering = ("-id",)
    # Another order would sort the whole table.
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("prompt",)
    search_help_text = "Words of the prompt, a username, an id, a seed, or the SHA-256 of the uploaded file."
    fieldsets = (
        (None, {"fields": ("prompt", "state_in_words", "error", "warning_list")}),
        (
            "Request",
            {"fields": ("id", "request_id", "asked_by", "token", "in_studio", "model_name", "request_fields")},
        ),
        ("Run", {"fields": ("created", "started", "finished", "phase_list", "recipe_values")}),
        (
            "Work",
            {
                "fields": (
                    "pool",
                    "priority",
                    "cost",
                    "worker",
                    "attempt",
                    "crash_count",
                    "lease_expires",
                    "deadline",
                    "cancel_requested",
                    "trashed",
                    "deleted",
                )
            },
        ),
        ("Input", {"fields": ("input_format", "input_size", "input_sha256")}),
    )
    inlines = (GeneratedImageInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return flatten_fieldsets(self.fieldsets)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Tokens are shown to those alone who may see tokens."""
        if request.user.has_perm("accounts.view_apitoken"):
            return self.fieldsets
        return [
            (title, {"fields": tuple(name for name in options["fields"] if name != "token")})
            for title, options in self.fieldsets
        ]

    def get_inlines(self, request: HttpRequest, obj: Generation | None) -> Any:
        """Results, where there are any."""
        return self.inlines if obj and obj.images.all() else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Generation]:
        return super().get_queryset(request).select_related("user", "token").prefetch_related("images")

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Generation], per_page: int, *args: Any, **kwargs: Any
    ) -> CountlessPaginator:
        page = request.GET.get("p", "1")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 10 else 1
        return CountlessPaginator(queryset, per_page, max(1, number))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Generation], search_term: str
    ) -> tuple[QuerySet[Generation], bool]:
        """Rows that every word of the search is said of; nothing here makes a row appear twice."""
        words = []
        for word in search_term.split():
            if (exact := _exactly(word)) is not None:
                queryset = queryset.filter(exact)
            else:
                words.append(word)
        if not words:
            return queryset, False
        start, end = period(request.GET.get(ByDate.parameter_name, "")) or (None, None)
        return search.search_all(queryset, " ".join(words), start, end), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A page to read; `picture` chooses among the results, from 1."""
        more: dict[str, Any] = {}
        if shown := self.get_object(request, unquote(object_id)):
            images = list(shown.images.all())
            number = request.GET.get("picture", "1")
            at = int(number) - 1 if number.isascii() and number.isdigit() and len(number) < 4 else 0
            more = {
                "images": images,
                "result": images[at] if 0 <= at < len(images) else next(iter(images), None),
                "events": timeline.events(shown),
            }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Tokens are asked for by those alone who may see tokens."""
        hidden = () if request.user.has_perm("accounts.view_apitoken") else (OfToken,)
        return [found for found in self.list_filter if found not in hidden]

    @admin.display
    def pictures(self, generation: Generation) -> SafeString:
        shots = [_shot(generation.input_thumbnail, 64, 64, "Input", False)]
        shots += [
            _shot(image.thumbnail, 64, 64, f"Result {image.index + 1}", image.nsfw) for image in generation.images.all()
        ]
        return format_html('<div class="shots">{}</div>', format_html_join("", "{}", ((shot,) for shot in shots)))

    @admin.display(description="prompt")
    def what(self, generation: Generation) -> str:
        if generation.deleted:
            return "deleted"
        return generation.prompt if len(generation.prompt) <= 120 else f"{generation.prompt[:119]}…"

    @admin.display(description="user")
    def by(self, generation: Generation) -> SafeString:
        name = generation.user.get_username()
        return format_html('<a href="?{}" title="Only those of {}">{}</a>', urlencode({"user": name}), name, name)

    @admin.display(description="model")
    def model_name(self, generation: Generation) -> str:
        return generation.model_id

    @admin.display
    def seeds(self, generation: Generation) -> str:
        """The seeds of a request follow one another: the first and the last say all."""
        first, last = generation.recipe["seeds"][0], generation.recipe["seeds"][-1]
        return str(first) if first == last else f"{first} – {last}"

    @admin.display
    def flags(self, generation: Generation) -> SafeString | str:
        images = generation.images.all()
        flagged = sum(image.nsfw for image in images)
        reviewed = sorted({image.get_review_display() for image in images if image.review})
        if flagged or reviewed:
            words = f"{flagged} flagged" if flagged else "not flagged"
            return format_html("<strong{}>{}</strong><br>{}", _FLAG if flagged else "", words, ", ".join(reviewed))
        return "not checked" if any(not image.is_checked for image in images) else ""

    @admin.display(description="created")
    def asked_at(self, generation: Generation) -> str:
        return f"{timezone.localtime(generation.created):%Y-%m-%d %H:%M}"

    @admin.display(description="state")
    def state_in_words(self, generation: Generation) -> str:
        return display.state(generation) + (", on legal hold" if generation.legal_hold else "")

    @admin.display
    def error(self, generation: Generation) -> str:
        return f"{generation.error_message} ({generation.error_code})".lstrip() if generation.error_code else "none"

    @admin.display(description="warnings")
    def warning_list(self, generation: Generation) -> str:
        return "\n".join(generation.warnings) or "none"

    @admin.display(description="user")
    def asked_by(self, generation: Generation) -> SafeString:
        address = reverse("admin:generation_generation_changelist") + "?" + urlencode({"user": generation.user})
        return format_html('<a href="{}">{}</a>', address, generation.user.get_username())

    @admin.display(description="parameters")
    def request_fields(self, generation: Generation) -> SafeString:
        return _json(generation.parameters)

    @admin.display(description="recipe")
    def recipe_values(self, generation: Generation) -> SafeString:
        return _json(generation.recipe)

    @admin.display(description="phases")
    def phase_list(self, generation: Generation) -> str:
        return (
            ", ".join(f"{part.name} {display.seconds(part.seconds)}" for part in display.timings(generation)) or "none"
        )

    @admin.display(description="size")
    def input_size(self, generation: Generation) -> str:
        return f"{generation.input_width} × {generation.input_height}"


def _exactly(word: str) -> Q | None:
    """The rows that an id or a digest means; None: it is neither."""
    with suppress(ValueError):
        return Q(pk=UUID(word))
    if SHA256.fullmatch(word.lower()):
        # Said twice, since the index is of rows with an input alone.
        return Q(input_sha256=word.lower()) & ~Q(input_sha256="")
    return None


def _shot(file: FieldFile, width: int, height: int, name: str, flagged: bool) -> SafeString:
    """A picture; a flagged one is blurred until it is clicked."""
    if not file:
        return SafeString("")
    picture = format_html(
        '<img src="{}" alt="{}" width="{}" height="{}" loading="lazy">', file.url, name, width, height
    )
    if not flagged:
        return format_html('<span class="shot">{}</span>', picture)
    return format_html(
        '<label class="shot flagged" title="Flagged: click to show or hide">'
        '<input type="checkbox" autocomplete="off" aria-label="Show {}, which is flagged">{}</label>',
        name.lower(),
        picture,
    )


def _json(value: Any) -> SafeString:
    return format_html('<pre class="values">{}</pre>', dumps(value, indent=1, ensure_ascii=False))
