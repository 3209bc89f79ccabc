"""The form of templates and scripts."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.environment import ROOT

TEMPLATES = ROOT / "templates"
SCRIPTS = ROOT / "dreamsite" / "static" / "dreamsite"
MAX_LINE = 140
CLASSIC = "dreamsite/before_paint.js"
"""The only script of ours in a page that is not a module: it runs before the first paint."""

WORKER = "service_worker.js"
"""The script that is in no page."""

DJANGOS = "admin/app_list.html"
"""The template of Django's that ours include."""


def _templates() -> Iterator[tuple[Path, str]]:
    for path in sorted(TEMPLATES.rglob("*.html")):
        yield path.relative_to(TEMPLATES), path.read_text()


def test_lines_are_short() -> None:
    long = [
        f"{path}:{number}"
        for path, text in _templates()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > MAX_LINE
    ]
    assert long == []


def test_scripts_of_ours_are_modules() -> None:
    sources = set()
    for path, text in _templates():
        for tag in re.findall(r"<script\b.*?>", text):
            (source,) = re.findall(r"""src="\{% static '([^']+)' %\}""", tag)
            if source.startswith("dreamsite/"):
                assert ('type="module"' in tag) == (source != CLASSIC), f"{path}: {tag}"
                sources.add(source)
    assert sources


def test_partials_are_named_as_partials() -> None:
    """A template of ours that another includes has a name with an underscore or is an icon; and every partial is used."""
    included = set()
    for path, text in _templates():
        for name in re.findall(r"""\{% include "([^"]+)" """, text):
            if name == DJANGOS:
                continue
            assert Path(name).name.startswith("_") or name.startswith("icons/"), f"{path}: {name}"
            included.add(name)
    partials = {str(path) for path, _ in _templates() if path.name.startswith("_") or path.parts[0] == "icons"}
    assert included <= partials
    rendered = {name for name in partials - included if _is_rendered(name)}
    assert partials == included | rendered


def _is_rendered(name: str) -> bool:
    """Return whether a view renders the template of this name."""
    modules = (ROOT / "generation").rglob("*.py")
    return any(f'"{name}"' in module.read_text() for module in modules)


def test_every_script_is_used_by_a_template_or_a_module() -> None:
    used = {WORKER}
    for _, text in _templates():
        used |= set(re.findall(r"'dreamsite/(\w+\.js)'", text))
    for path in SCRIPTS.glob("*.js"):
        imports = set(re.findall(r'^import .*"\./(\w+\.js)";$', path.read_text(), re.MULTILINE))
        assert all((SCRIPTS / name).exists() for name in imports), path.name
        used |= imports
    assert used == {path.name for path in SCRIPTS.glob("*.js")}


def test_scripts_make_no_globals() -> None:
    for path in SCRIPTS.glob("*.js"):
        assert not re.search(r"\b(window|globalThis|self)\.\w+\s*=[^=]", path.read_text()), path.name
