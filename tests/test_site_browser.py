"""The report as a reader meets it: in a real browser, wide and narrow, light and dark, with the keyboard alone."""

import pytest
from browser import Page, browser, needs_chromium
from run_folder import finished_run

from kyara_utils.report.site.publish import write_report

pytestmark = needs_chromium
NAMES = ("index", "rows", "figures", "evaluation", "cards", "notebooks", "05_sft")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A written report of some forty rows."""
    runs = tmp_path_factory.mktemp("runs")
    finished_run(runs / "tiny", 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KYARA_RUNS", str(runs))
        return write_report("tiny").parent


@pytest.fixture(scope="module")
def program():
    with browser() as found:
        yield found


@pytest.fixture
def rows(program, folder):
    """The page of rows, opened."""
    one = Page(program, folder).open("rows.html")
    yield one
    assert one.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_quiet_offline_and_no_wider_than_the_screen(program, folder, width, scheme):
    """No error, no request into a network, no sideways scrolling, and the colours of the reader's choice."""
    one = Page(program, folder, width, scheme)
    for name in NAMES:
        one.open(f"{name}.html")
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width, name
        dark = one.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark") and "owned" not in one.page.title(), name
    assert one.said == [] and all(url.startswith(("file:", "data:", "about:")) for url in one.asked)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_the_keyboard_reaches_every_control(program, folder, name, width):
    assert Page(program, folder, width).open(f"{name}.html").unreached() == []


def state(one, words):
    """Wait for the line that counts the rows."""
    one.page.wait_for_selector(f"#state:text-is('{words}')", timeout=20_000)


def test_rows_are_found_in_either_script(rows):
    for word in ("第 7 種茶葉", "第 7 种茶叶"):
        rows.page.fill("[name=search]", word)
        state(rows, "1 of 45 rows")
    rows.page.fill("[name=search]", "水温以摄氏九十度为宜【")
    state(rows, "0 of 45 rows")
    rows.page.check("[name=whole]")
    state(rows, "31 of 45 rows")
    rows.page.click("button[type=reset]")
    state(rows, "45 of 45 rows")


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("kind", "reject", 21),
        ("rule", "copying", 10),
        ("source", "rag_cited", 15),
        ("verdict", "judge: first", 4),
        ("tag", "軟體", 11),
    ],
)
def test_rows_are_filtered(rows, name, value, count):
    rows.page.select_option(f"[name={name}]", value)
    state(rows, f"{count} of 45 rows")
    assert rows.page.locator("#rows tbody tr").count() == min(count, 25)


def test_scores_are_filtered_and_sorted(rows):
    rows.page.fill("[name=low]", "1.5")
    rows.page.fill("[name=high]", "1.7")
    state(rows, "3 of 45 rows")
    rows.page.click("th:has-text('score')")
    rows.page.click("th:has-text('score')")
    rows.page.wait_for_selector("th[aria-sort=descending]")
    assert rows.page.locator("#rows tbody td:last-child").all_inner_texts() == ["1.7", "1.6", "1.5"]


def test_a_story_opens_and_closes_by_keyboard_and_by_address(rows):
    rows.page.focus("#rows tbody button >> nth=2")
    rows.page.keyboard.press("Enter")
    rows.page.wait_for_selector("#story[open] article")
    rows.page.wait_for_selector("#story summary:has-text('茶 2')")
    assert rows.unreached() == []
    address = rows.page.url
    rows.page.keyboard.press("Escape")
    rows.page.wait_for_selector("#story:not([open])", state="attached")
    rows.page.wait_for_url(lambda url: "#" not in url)  # the address changes after the dialog has closed
    rows.open(address.rpartition("/")[2]).page.wait_for_selector("#story[open] article")


def test_a_citation_leads_to_its_sentence(rows):
    rows.page.click("#rows tbody button >> nth=2")
    rows.page.click("#story .assistant button.cite")
    rows.page.wait_for_selector("#story mark")
    assert rows.page.inner_text("#story mark") == "泡茶時水溫以攝氏九十度為宜，第一泡約需一分鐘。"


def test_text_of_the_data_runs_nowhere(rows):
    rows.page.click("#rows tbody button >> nth=0")
    rows.page.wait_for_selector("#story[open] article")
    assert "<script>" in rows.page.inner_text("#story .assistant") and "owned" not in rows.page.title()
    assert rows.page.locator("#story img, #story script").count() == 0
