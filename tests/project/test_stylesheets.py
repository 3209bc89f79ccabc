"""The form of the stylesheets, and that templates link each of them."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

from tests.support.environment import ROOT

FOLDER = ROOT / "dreamsite" / "static" / "dreamsite"
SHEETS = sorted(FOLDER.glob("*.css"))
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
COMPUTED = "{% url 'brand-colours' %}"
"""The style sheet of SITE_ACCENT, which is no file."""

LINK = re.compile(r"""{% static ['"]([^'"]+\.css)['"] %}""")


def rules(sheet: Path) -> str:
    """Return the text of a stylesheet without its comments; line numbers stay."""
    return COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), sheet.read_text())


def linked() -> set[str]:
    """Return the names of all stylesheets that templates link, as `{% static %}` takes them."""
    return {name for template in TEMPLATES for name in LINK.findall(template.read_text())}


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
def test_a_stylesheet_is_written_for_people(sheet: Path) -> None:
    lines = sheet.read_text().splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 120] == []
    crowded = [
        number
        for number, line in enumerate(rules(sheet).splitlines(), 1)
        if line.count(";") > 1 or ("{" in line and not line.endswith("{")) or ("}" in line and line.strip() != "}")
    ]
    assert crowded == [], "one declaration a line, and braces at the end of a line or alone"
    joined = [
        number
        for number, (line, following) in enumerate(pairwise(lines), 1)
        if line.strip() == "}" and following.strip() not in ("", "}")
    ]
    assert joined == [], "a blank line between rules"


def test_every_stylesheet_is_linked() -> None:
    assert {f"dreamsite/{sheet.name}" for sheet in SHEETS} - linked() == set()


def test_every_link_leads_to_a_stylesheet() -> None:
    assert [name for name in sorted(linked()) if finders.find(name) is None] == []


def test_every_link_to_a_stylesheet_is_seen() -> None:
    """The tests above do not see a stylesheet that is linked without `{% static %}`."""
    for template in TEMPLATES:
        text = template.read_text()
        assert text.count('rel="stylesheet"') == len(LINK.findall(text)) + text.count(COMPUTED), template
