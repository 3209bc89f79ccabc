"""How long browsers may keep a page."""

from django.views.decorators.cache import cache_control

revalidated = cache_control(private=True, no_cache=True)
"""No shared cache may keep these pages, which contain signed URLs. `no-store` would lose the scroll position on going back."""
