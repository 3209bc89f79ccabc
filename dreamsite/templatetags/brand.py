"""The tag `{% brand as brand %}`, in all templates. A tag, since the page of a server error has no context."""

from django import template

from dreamsite import brand as site

register = template.Library()


@register.simple_tag
def brand() -> site.Brand:
    return site.brand()
