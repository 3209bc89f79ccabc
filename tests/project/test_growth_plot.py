"""The drawings of `make bench ARGS=growth`: what a fit calls a curve, that every screen shows the lines, and their page."""

from xml.etree import ElementTree

import pytest

from dreamsite.accent import contrast
from tests.tools import growth_page, growth_plot
from tests.tools.growth_plot import Series

SIZES = (10, 100, 1_000, 10_000, 100_000)


@pytest.mark.parametrize(
    ("costs", "curve"),
    [
        ((5.0, 5.3, 4.8, 5.1, 5.2), "constant"),
        ((3.0, 5.1, 6.9, 9.0, 11.1), "logarithmic"),
        ((5.0, 5.1, 6.0, 15.3, 104.0), "linear"),
        ((5.0, 5.0, 5.1, 15.0, 1_010.0), "quadratic"),
    ],
)
def test_a_fit_is_named_for_its_curve(costs: tuple[float, ...], curve: str) -> None:
    assert growth_plot.fit(list(zip(SIZES, costs, strict=True))).curve == curve


def test_a_fit_tells_where_a_cost_stops_being_flat() -> None:
    found = growth_plot.fit([(size, 5 + 0.001 * size) for size in SIZES])
    assert found.doubled_at == pytest.approx(5_000)
    assert found.cost(10_000_000) == pytest.approx(10_005)
    assert found.text("ms") == "linear, 5 ms at first, doubled at 5,000"


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2])
def test_an_exponent_is_that_of_the_largest_sizes(exponent: float) -> None:
    points = [(10.0, 900.0), *((size, 3 * size**exponent) for size in SIZES[2:])]
    assert growth_plot.exponent(points) == pytest.approx(exponent)


def test_a_part_of_the_page_is_written_anew_and_the_others_stay() -> None:
    page = "# Costs\n\n## Measured\n\nAs follows.\n\n### One\n\nold\n\n### Two\n\nkept\n"
    written = growth_page.with_part(page, "One", "new\n\n| a |\n")
    assert written == page.replace("old", "new\n\n| a |")
    assert growth_page.with_part(written, "Three", "more\n") == written + "\n### Three\n\nmore\n"


def test_every_series_is_a_line_with_a_marker_at_each_point_and_in_the_legend() -> None:
    series = [Series(name, [(size, 2.0 + number) for size in SIZES]) for number, name in enumerate(("one", "two"))]
    drawing = ElementTree.fromstring(growth_plot.draw("A title", "sizes", "ms", series))  # noqa: S314  our own
    svg = "{http://www.w3.org/2000/svg}"
    assert len(drawing.findall(f"{svg}polyline")) == 2
    assert len(drawing.findall(f"{svg}path[@transform]")) == 2 * (len(SIZES) + 1)
    texts = [text.text for text in drawing.findall(f"{svg}text")]
    assert {"A title", "sizes", "ms", "one", "two", "100,000"} <= set(texts)


def test_texts_and_lines_are_seen_on_light_and_dark_screens() -> None:
    for screen, ground in enumerate(growth_plot.BACKGROUNDS):
        for pair in (growth_plot.TEXTS, *growth_plot.COLOURS):
            assert contrast(pair[screen], ground) >= 4.5
