"""How long browsers may keep a page."""

from django.views.decorators.cache import cache_control

revalidated = cache_control(private=True, no_cache=True)
"""Signed URLs are in these pages, so no cache may share them; `no-store` would cost the back button its scroll position."""
