"""Thumbnails in the admin's list of generations."""

from django.db.models.fields.files import FieldFile
from django.utils.html import format_html
from django.utils.safestring import SafeString

from generation.models import GeneratedImage

_SIDE = 64
"""Pixels of a thumbnail's width and height."""


def result_thumbnail(image: GeneratedImage) -> SafeString:
    return thumbnail(image.thumbnail, f"Result {image.index + 1}", image.nsfw)


def thumbnail(file: FieldFile, name: str, is_flagged: bool = False) -> SafeString:
    """Return the picture as HTML, empty if there is no file; a flagged one is blurred until it is clicked."""
    if not file:
        return SafeString("")
    picture = format_html('<img src="{}" alt="{}" width="{}" height="{}" loading="lazy">', file.url, name, _SIDE, _SIDE)
    if not is_flagged:
        return format_html('<span class="thumbnail">{}</span>', picture)
    return format_html(
        '<label class="thumbnail flagged" title="Flagged: click to show or hide">'
        '<input type="checkbox" autocomplete="off" aria-label="Show {}, which is flagged">{}</label>',
        name.lower(),
        picture,
    )
