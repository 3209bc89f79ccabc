"""HTML as a browser reads it."""

import re


def squeeze(html: str) -> str:
    """Collapse white space, and drop it around tags and at the end of attributes: tests do not see the layout of templates."""
    html = re.sub(r"\s+", " ", html)
    html = re.sub(r'\s+(?="(?:[ >/]|$))', "", html)
    return re.sub(r"\s*(>)\s*|\s*(<)", r"\1\2", html).strip()
