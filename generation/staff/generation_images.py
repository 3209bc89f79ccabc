"""Pictures in the admin's pages of generations: thumbnails, and the table of results."""

from django.contrib import admin
from django.db.models.fields.files import FieldFile
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin_tools.read_only import ReadOnlyAdminMixin
from generation import display
from generation.models import GeneratedImage, Generation

_SIDE = 64
"""Pixels of a thumbnail's width and height."""


class GeneratedImageInline(ReadOnlyAdminMixin, admin.TabularInline[GeneratedImage, Generation]):
    """The results on the page of a generation."""

    model = GeneratedImage
    verbose_name_plural = "results"
    fields = ("picture", "seed_link", "size", "safety", "checker", "threshold")
    readonly_fields = fields

    @admin.display
    def picture(self, image: GeneratedImage) -> SafeString:
        return result_thumbnail(image)

    @admin.display(description="seed")
    def seed_link(self, image: GeneratedImage) -> SafeString:
        return format_html('<a href="?picture={}" title="Show this result">{}</a>', image.index + 1, image.seed)

    @admin.display
    def size(self, image: GeneratedImage) -> str:
        return f"{image.width} × {image.height}"

    @admin.display
    def safety(self, image: GeneratedImage) -> str:
        return display.safety(image)


def result_thumbnail(image: GeneratedImage) -> SafeString:
    return thumbnail(image.thumbnail, f"Result {image.index + 1}", image.nsfw)


def thumbnail(file: FieldFile, name: str, is_flagged: bool = False) -> SafeString:
    """Return the picture as HTML, empty if there is no file; a flagged one is blurred until it is clicked."""
    if not file:
        return SafeString("")
    picture = format_html('<img src="{}" alt="{}" width="{}" height="{}" loading="lazy">', file.url, name, _SIDE, _SIDE)
    if not is_flagged:
        return format_html('<span class="shot">{}</span>', picture)
    return format_html(
        '<label class="shot flagged" title="Flagged: click to show or hide">'
        '<input type="checkbox" autocomplete="off" aria-label="Show {}, which is flagged">{}</label>',
        name.lower(),
        picture,
    )
