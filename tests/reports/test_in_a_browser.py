"""All pages in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

import pytest

from mull.reports.build import write_report
from mull.reports.geometry.build import write_geometry
from mull.reports.paper.build import write_paper
from mull.reports.routing.build import write_report as write_routes
from mull.runs.store import RunStore
from tests.browser import Opened, axe_source, chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Name → address of a page; few questions, so that the Tab key is soon through."""
    from tests.reports.conftest import make_run
    from tests.reports.geometry.conftest import make_pilot
    from tests.reports.routing.conftest import make_result

    folder = tmp_path_factory.mktemp("pages")
    make_run(folder / "run", (0, 0.4, 0.5, 0.6, 1), 12, 2, hostile=True).__exit__()
    with RunStore.open(folder / "run") as store:
        report = write_report(store, folder / "report", formats=("html",))[0]
    paper = write_paper([folder / "run"], folder / "paper").paths[0]
    geometry = write_geometry(make_pilot(), folder / "geometry")[0]
    routes = write_routes(*make_result(hostile=True), folder / "routes")[0]
    pages = {"report": report, "paper": paper, "geometry": geometry, "routes": routes}
    return {name: path.as_uri() for name, path in pages.items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["report", "paper", "geometry", "routes"])
def test_pages_fit_are_silent_and_accessible(browser, addresses, name, width, theme):
    with Opened(browser, addresses[name], width, theme) as opened:
        assert opened.overflow() == []
        assert opened.violations(axe_source()) == []
        assert opened.unreachable() == []
        assert opened.said == []


def test_the_viewer_opens_where_the_settings_differ(browser, addresses):
    with Opened(browser, addresses["report"], 1400, "light") as opened:
        badges = opened.page.locator(".card .badge").all_inner_texts()
        assert {"✓ correct", "✗ wrong"} <= set(badges)


def test_the_answer_and_the_tokens_are_in_sight_on_a_phone(browser, addresses):
    with Opened(browser, addresses["report"], 390, "light") as opened:
        top = opened.page.locator(".facts").bounding_box()
        assert top["y"] + top["height"] < 900, "the answer is on the first screen"
        assert "mull merge --instruct toy-instruct" in opened.page.locator(".command").inner_text()
        head = opened.page.locator("#metrics th", has_text="Token #N").bounding_box()
        assert head["x"] + head["width"] <= 390
        scroller = opened.page.locator("#metrics .scroll")
        assert scroller.evaluate("e => e.scrollWidth > e.clientWidth")
        assert "linear-gradient" in scroller.evaluate("e => getComputedStyle(e).backgroundImage")
    with Opened(browser, addresses["paper"], 390, "light") as opened:
        figure = opened.page.locator("#dynamics figure svg:visible").bounding_box()
        assert figure["width"] > 0.8 * 390
