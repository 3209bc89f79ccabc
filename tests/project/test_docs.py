"""README, CONTRIBUTING, docs/ and the other Markdown files: what they name exists, and their tables are complete.

Their snippets are run by `test_snippets.py`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import huggingface_hub
import pytest
from django.contrib.auth.models import Group
from django.core.management import get_commands, load_command_class
from django.urls import resolve
from django.utils.module_loading import import_string
from opentelemetry.sdk import environment_variables

from dreamsite import __version__
from generation.api.events import ServerSentEvent
from generation.families import FAMILY_TRAITS, Family
from generation.memory import choose_plan
from generation.models import DiffusionModel, RetentionRule
from generation.pages.studio.page import MODES
from generation.parameters import ErrorCode, ImageToImageParameters
from generation.recipes import BUNDLED_OWNER
from tests.support.environment import ROOT
from tests.tools import models

GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = [
    *GUIDES,
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "deploy" / "README.md",
    ROOT / "training" / "README.md",
    *sorted(ROOT.glob("generation/engine/bundled/*/CARD.md")),
]
BLOCK = re.compile(r"^```.*?^```$", re.M | re.S)
WIDTH = 120
EMPTY = {"model_id": "the default model", "seed": "random", "response_format": "as `IMAGE_URLS` says"}
"""What the table of fields says for a missing field if its default is not a value; "none" for all others."""


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def page(name: str) -> str:
    return (ROOT / name).read_text()


def tables(text: str, *header: str) -> list[list[str]]:
    """Return the rows of all tables with these column names."""
    head = re.escape(f"| {' | '.join(header)} |")
    tables = re.findall(rf"^{head}\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.M)
    assert tables, f"no table with the columns {header}"
    rows = "".join(table if table.endswith("\n") else f"{table}\n" for table in tables).splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def unquoted(cell: str) -> str:
    return cell.strip("`*")


def test_the_newest_version_of_the_changelog_is_the_one_in_the_code() -> None:
    unreleased, newest, *_ = re.findall(r"^## (\S+)", page("CHANGELOG.md"), re.M)
    assert (unreleased, newest) == ("Unreleased", __version__)


# Tables


def test_every_field_and_its_default_are_documented() -> None:
    rows = {unquoted(name): default for name, default, _ in tables(page("docs/api.md"), "field", "default", "meaning")}
    assert [rows.pop(name) for name in ("image", "mask", "images[]")] == ["required", "none", "none"]
    assert rows == {name: default_text(name, field) for name, field in ImageToImageParameters.model_fields.items()}


def default_text(name: str, field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, ""):
        return EMPTY.get(name, "none")
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def test_every_error_code_is_documented_with_its_status_and_the_time_of_a_repetition() -> None:
    header = ("code", "status", "again", "meaning")
    rows = {unquoted(code): (int(status), again) for code, status, again, _ in tables(page("docs/api.md"), *header)}
    times = {code: f"{code.retry_after} s" if code.retry_after else "no" for code in ErrorCode}
    assert rows == {code.value: (code.status, times[code]) for code in ErrorCode}


def test_every_event_is_documented() -> None:
    rows = [name for events, _ in tables(page("docs/api.md"), "event", "data") for name in events.split(", ")]
    assert [unquoted(name) for name in rows] == list(get_args(ServerSentEvent.model_fields["event"].annotation))


def test_every_setting_and_its_default_are_documented() -> None:
    rows = {
        unquoted(name): unquoted(default)
        for name, default, _ in tables(page("docs/settings.md"), "variable", "default", "meaning")
    }
    defaults = dict(settings_with_defaults())
    assert rows.keys() == defaults.keys()
    # A computed or empty default is described by a text.
    literal = {name: default for name, default in defaults.items() if default is not None}
    assert {name: rows[name] for name in literal} == literal


def settings_with_defaults() -> Iterator[tuple[str, str | None]]:
    """Yield each variable that the settings read, with its default as the page writes it; None if it is not a constant."""
    for call in ast.walk(ast.parse(page("dreamsite/settings.py"))):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="env")), args=[ast.Constant(value=str(name)), *_]):
                (default,) = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
                yield name, written(default)


def hub_variables() -> set[str]:
    """Return the documented variables that the hub's client reads."""
    return {unquoted(name) for name, _ in tables(page("docs/settings.md"), "variable", "for the hub's client")}


def test_the_hubs_client_reads_the_variables_that_are_documented() -> None:
    sources = [path.read_text() for path in Path(huggingface_hub.__file__).parent.rglob("*.py")]
    assert "HF_TOKEN" in hub_variables()
    for name in hub_variables():
        assert any(re.search(rf"(environ|getenv).*\b{name}\b", source) for source in sources), name


def written(default: ast.expr) -> str | None:
    try:
        value = eval(compile(ast.Expression(default), "", "eval"), {"__builtins__": {}})  # noqa: S307  our own settings
    except NameError:
        return None
    match value:
        case bool():
            return "on" if value else "off"
        case int() | float():
            return None if value == 0 and isinstance(value, float) else f"{value:.10g}"
        case list():
            return ", ".join(value) or None
        case _:
            return str(value) or None


def test_the_tables_of_families_are_those_that_make_models_prints() -> None:
    guide = page("docs/models.md")
    for printed in (models.families(), models.left_out()):
        assert printed in guide, "run `make models`"


@pytest.mark.django_db
def test_every_listed_model_is_documented_with_its_licence() -> None:
    rows = [
        (unquoted(name), unquoted(family), licence)
        for name, family, licence in tables(page("docs/models.md"), "model", "family", "licence")
    ]
    listed = DiffusionModel.objects.exclude(id__startswith=f"{BUNDLED_OWNER}/")
    assert sorted(rows) == sorted(listed.values_list("id", "family", "licence"))


def test_the_memory_plans_of_models_are_those_that_workers_choose() -> None:
    columns = ("model", "family", "all", "denoiser", "text encoder", "8 GB", "12 GB", "16 GB", "24 GB")
    for _, family, *sizes_and_plans in tables(page("docs/models.md"), *columns):
        size, denoiser, text_encoder = (float(size) for size in sizes_and_plans[:3])
        sizes = {"transformer": denoiser, "text_encoder": text_encoder, "vae": size - denoiser - text_encoder}
        parameters = {part: int(gigabytes * 1e9 / 2) for part, gigabytes in sizes.items()}
        traits = FAMILY_TRAITS[Family(unquoted(family))]
        assert sizes_and_plans[3:] == [str(choose_plan(traits, parameters, card * 2**30)) for card in (8, 12, 16, 24)]


def test_the_memory_options_of_models_are_documented() -> None:
    rows = dict(tables(page("docs/models.md"), "field", "values"))
    fields: dict[str, Any] = {name: DiffusionModel._meta.get_field(name.replace(" ", "_").lower()) for name in rows}
    for name, field in fields.items():
        values = re.split("[;:]", rows[name])[0].split(", ")
        assert field.choices is None or values == [label for _, label in field.choices], name


def test_every_mode_of_the_studio_is_documented() -> None:
    rows = [address for address, _ in tables(page("docs/studio.md"), "address", "starts with")]
    assert re.findall(r"mode=(\w+)", " ".join(rows)) == list(MODES)


@pytest.mark.django_db
def test_the_groups_of_staff_exist() -> None:
    rows = {unquoted(name) for name, _ in tables(page("docs/staff.md"), "group", "may")}
    assert rows == set(Group.objects.values_list("name", flat=True))


def test_the_keys_of_the_review_page_exist() -> None:
    keys = {key[1].lower() for key, _ in tables(page("docs/staff.md"), "key", "what it does")}
    templates = "".join(path.read_text() for path in (ROOT / "templates" / "admin" / "review").glob("*.html"))
    assert keys - {"?"} <= set(re.findall(r'data-key="(\w)"', templates))
    assert "data-keys-help" in templates


def test_every_kind_of_retention_is_documented() -> None:
    rows = [what for what, _ in tables(page("docs/staff.md"), "what", "removes")]
    assert rows == RetentionRule.What.labels


def test_every_worker_command_is_documented() -> None:
    row = import_string("generation.models.WorkerCommand")
    words = " ".join(command for command, _ in tables(page("docs/staff.md"), "command", "what it does"))
    assert {action.split()[0] for action in row.Action.values} <= set(re.findall(r"\w+", words))


def test_the_values_of_confirmed_pictures_are_those_of_the_setting() -> None:
    rows = [unquoted(value) for value, _ in tables(page("docs/staff.md"), "value", "what is served")]
    assert f"'CONFIRMED_PICTURES': {tuple(rows)}".replace("'", '"') in page("dreamsite/checks.py")


def test_the_layers_are_those_of_the_contract() -> None:
    documented = {
        name: int(layer)
        for layer, names, _ in tables(page("CONTRIBUTING.md"), "layer", "package or module", "what is in it")
        for name in re.findall(r"`(\w+)`", names)
    }
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["name"] == "Imports point one way"]
    assert contract["containers"] == ["generation"]
    assert documented == {
        name: number for number, layer in enumerate(contract["layers"], 1) for name in layer.split(" | ")
    }


# Names


@pytest.mark.parametrize("name", names(PAGES))
def test_relative_links_and_their_anchors_resolve(name: str) -> None:
    source = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", BLOCK.sub("", page(name))):
        path, _, anchor = target.partition("#")
        linked = (source.parent / path).resolve() if path else source
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", names(GUIDES))
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    roots = "accounts|dreamsite|generation|templates|tests|training|deploy|docs"
    # A path of a directory ends in a slash: `dreamsite/tiny-edit` is a model.
    for path in re.findall(rf"`((?:{roots})/(?:[\w./-]*(?:/|\.\w+))?)`", page(name)):
        assert (ROOT / path).exists(), path


def test_every_name_that_contributing_places_in_a_file_is_there() -> None:
    placed = re.findall(r"((?:`\w+`(?:, | and )?)+) in `([\w./]+\.py)`", page("CONTRIBUTING.md").replace("\n   ", " "))
    assert len(placed) > 10
    for words, path in placed:
        for word in re.findall(r"`(\w+)`", words):
            assert re.search(rf"\b{word}\b", page(path)), f"{word} in {path}"


@pytest.mark.parametrize("name", names(GUIDES))
def test_every_address_that_a_page_names_exists(name: str) -> None:
    for address in re.findall(r"`(?:(?:GET|POST|DELETE) )?(/[^`\s]*)`", page(name)):
        path = re.sub(r"\{\w+\}", "01a2030c-14cb-74d1-9440-56bf4fa2fb08", address.partition("?")[0])
        if path != "/health":  # answered by the ASGI middleware
            resolve(path.replace("…", "code"))


@pytest.mark.parametrize("name", names(GUIDES))
def test_every_variable_that_a_page_names_is_a_setting(name: str) -> None:
    if name in ("CONTRIBUTING.md", "docs/architecture.md"):
        return  # they name constants of the code, too
    variables = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b", page(name)))
    # OpenTelemetry's SDK reads the variables that it names.
    of_others = {"CUDA_VISIBLE_DEVICES"} | hub_variables() | set(vars(environment_variables))
    assert variables - of_others <= {variable for variable, _ in settings_with_defaults()}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.M))
    texts = [
        *PAGES,
        ROOT / ".ci" / "run",
        *(path for top in ("tests", "training") for path in (ROOT / top).rglob("*.py")),
    ]
    for path in texts:
        used = set(re.findall(r"(?:`|^)make (?:-C \S+ )?([a-z-]+)\b", path.read_text(), re.M))
        assert used <= targets, path


def test_every_command_that_is_named_exists() -> None:
    commands = get_commands()
    for path in PAGES:
        for name in set(re.findall(r"manage\.py (\w+)", path.read_text())):
            assert load_command_class(commands[name], name), name


@pytest.mark.parametrize("name", names(PAGES))
def test_prose_is_no_wider_than_the_code(name: str) -> None:
    lines = BLOCK.sub("", page(name)).splitlines()
    assert [line for line in lines if len(line) > WIDTH and not line.startswith("|")] == []
