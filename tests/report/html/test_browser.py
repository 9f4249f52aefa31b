"""The page in a browser: clicks, keys, filters, themes, paper, and what it tells aloud."""

import csv
import random
import re
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from report.html import documents
from spectra.numbers import hundredths, kept, number, percent, signed, whole
from spectra.report.colours import RAMPS

from .conftest import Opened

SMALL = 3  # layers


def rows_of(table: Locator) -> list[list[str]]:
    cells: list[list[str]] = table.locator("tbody").evaluate(
        "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return cells


def column(table: Locator, title: str) -> list[str]:
    heads = [text.strip("▲▼ ") for text in table.locator("thead th").all_text_contents()]
    place = heads.index(title)
    return [row[place] for row in rows_of(table)]


def head(table: Locator, title: str) -> Locator:
    return table.locator("thead th").filter(has_text=re.compile(rf"^{re.escape(title)}[▲▼]?$"))


def matrices(page: Page, section: str = "#r1") -> Locator:
    return page.locator(f"{section} > .table").last


def focused(page: Page) -> str:
    text: str = page.evaluate("document.activeElement.textContent")
    return text


def test_a_click_on_a_heading_sorts_and_says_so(opened: Opened) -> None:
    table = matrices(opened(documents.spectrum(SMALL)))
    sigma = head(table, "σ max")
    expect(head(table, "κ")).to_have_attribute("aria-sort", "descending")
    sigma.get_by_role("button").click()
    expect(sigma).to_have_attribute("aria-sort", "descending")
    values = [float(value) for value in column(table, "σ max")]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 5
    sigma.get_by_role("button").click()
    expect(sigma).to_have_attribute("aria-sort", "ascending")
    values = [float(value) for value in column(table, "σ max")]
    assert values == sorted(values)
    assert head(table, "κ").get_attribute("aria-sort") is None
    expect(table.page.locator("#live")).to_have_text("sorted by σ max, lowest first")


def test_names_sort_by_their_numbers(opened: Opened) -> None:
    table = matrices(opened(documents.spectrum(12)))
    head(table, "matrix").get_by_role("button").click()
    layers = [int(found[1]) for name in column(table, "matrix")
              if (found := re.search(r"layers\.(\d+)", name))]  # fmt: skip
    assert layers == sorted(layers)
    head(table, "matrix").get_by_role("button").click()
    layers = [int(found[1]) for name in column(table, "matrix")
              if (found := re.search(r"layers\.(\d+)", name))]  # fmt: skip
    assert layers == sorted(layers, reverse=True)
    assert layers[0] == 11


def test_what_has_no_number_comes_last_whichever_way(opened: Opened) -> None:
    table = matrices(opened(documents.check(2)))
    for _ in range(2):
        head(table, "σ max").get_by_role("button").click()
        assert column(table, "σ max")[-1] == "—"


def test_a_singular_matrix_has_the_highest_kappa(opened: Opened) -> None:
    found = documents.spectrum(2)
    found["rows"][4] |= {"status": "singular", "kappa": None}
    table = matrices(opened(found))
    assert column(table, "κ")[0] == "singular"
    head(table, "κ").get_by_role("button").click()
    assert column(table, "κ")[-1] == "singular"
    head(table, "κ").get_by_role("button").click()
    assert column(table, "κ")[0] == "singular"


def test_a_filter_leaves_what_matches_and_says_how_many(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    table = matrices(page)
    table.get_by_label("Filter matrices").fill("layers.2 mlp")
    expect(page.locator("#live")).to_have_text("3 of 22 matrices")
    assert len(rows_of(table)) == 3
    assert all("layers.2.mlp" in name for name in column(table, "matrix"))
    table.get_by_label("Filter matrices").fill("nothing at all")
    expect(page.locator("#live")).to_have_text("0 of 22 matrices")
    assert rows_of(table) == []
    table.get_by_label("Filter matrices").fill("")
    table.get_by_label("role").select_option("attn.k")
    expect(page.locator("#live")).to_have_text("3 of 22 matrices")
    assert set(column(table, "role")) == {"attn.k"}
    expect(table.locator("caption")).to_have_text("3 of 22 matrices")


def test_a_long_table_shows_more_on_demand(opened: Opened) -> None:
    page = opened(documents.spectrum(32, 1024))
    table = matrices(page)
    assert len(rows_of(table)) == 25
    table.get_by_role("button", name="Show 200 more").click()
    assert len(rows_of(table)) == 225
    assert focused(page) == rows_of(table)[25][0]
    expect(table.get_by_role("button", name=re.compile("^Show"))).to_have_count(0)


def test_a_click_on_a_name_opens_its_spectrum_and_escape_closes_it(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    panel = page.locator("#inspector")
    expect(panel).to_be_hidden()
    button = matrices(page).locator("tbody .open").nth(2)
    name = button.text_content()
    button.click()
    expect(panel).to_be_visible()
    assert panel.locator("h2").text_content() == name == focused(page)
    expect(panel.locator("svg.esd")).to_be_visible()
    expect(panel.get_by_text("noise edge").first).to_be_visible()
    assert panel.locator("svg.esd .hist").count() > 5
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert focused(page) == name


def test_the_spectrum_is_drawn_where_its_values_lie(opened: Opened) -> None:
    found = documents.spectrum(1)
    row = found["rows"][1]
    rank = min(row["rows"], row["cols"])
    row["sigma_profile"] = [10.0] * 33 + [0.1] * 32  # half of λ at 100, half at 0.01
    row["mp_edge"] = row["alpha"] = row["alpha_xmin"] = None
    page = opened(found)
    page.get_by_role("link", name=row["matrix"]).last.click()
    bars = page.locator("#inspector svg.esd .hist").evaluate_all(
        "all => all.map(b => ({x: b.x.baseVal.value, w: b.width.baseVal.value, "
        "h: b.height.baseVal.value}))"
    )
    ticks: dict[str, float] = page.locator("#inspector svg.esd text.mid").evaluate_all(
        "all => Object.fromEntries(all.map(t => [t.textContent, t.x.baseVal[0].value]))"
    )
    bars.sort(key=lambda bar: -bar["h"])
    left, right = sorted(bars[:2], key=lambda bar: bar["x"])
    for bar, label in ((left, "0.01"), (right, "100")):
        assert bar["x"] - 1 <= ticks[label] <= bar["x"] + bar["w"] + 1
    assert left["h"] > 0.9 * right["h"]
    assert all(bar["h"] < 0.1 * right["h"] for bar in bars[2:])
    assert f"{rank} singular values; drawn from 65 of them" in (
        page.locator("#inspector figcaption").first.text_content() or ""
    )


def test_the_keyboard_alone_opens_a_cell_of_the_heatmap(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    cell = page.locator('#r1 [role="gridcell"][tabindex="0"]').first
    cell.focus()
    assert (cell.get_attribute("aria-label") or "").startswith("attn.q, layer 0")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    here = page.locator(":focus")
    assert (here.get_attribute("aria-label") or "").startswith("attn.k, layer 2\nκ ")
    expect(page.locator("#tip")).to_contain_text("attn.k, layer 2")
    page.keyboard.press("Home")
    assert (here.get_attribute("aria-label") or "").startswith("attn.k, layer 0")
    page.keyboard.press("Enter")
    expect(page.locator("#inspector h2")).to_have_text("model.layers.0.self_attn.k_proj.weight")
    expect(page.locator("#inspector svg.esd")).to_be_visible()
    page.keyboard.press("Escape")
    assert (here.get_attribute("aria-label") or "").startswith("attn.k, layer 0")


def test_only_one_cell_of_a_heatmap_takes_a_tab_stop(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    assert page.locator('#r1 [role="gridcell"][tabindex="0"]').count() == 1


def test_a_pointer_on_a_cell_shows_its_value(opened: Opened) -> None:
    found = documents.spectrum(SMALL)
    page = opened(found)
    row = next(row for row in found["rows"] if (row["role"], row["layer"]) == ("attn.v", 1))
    page.locator('[role="gridcell"][aria-label^="attn.v, layer 1"]').first.hover()
    expect(page.locator("#tip")).to_have_text(
        re.compile(rf"attn\.v, layer 1\s*κ {float(format(row['kappa'], '.4g')):,g}")
    )


def test_the_heatmap_shows_what_is_chosen(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    page.get_by_label("Colour by").select_option(label="stable rank")
    expect(page.locator('[role="gridcell"]').first).to_have_attribute(
        "aria-label", re.compile(r"^attn\.q, layer 0\nstable rank [0-9.]+$")
    )
    assert page.locator('[role="grid"]').get_attribute("aria-label") == (
        "stable rank by role and layer"
    )


def test_a_cell_of_many_experts_lists_them(opened: Opened) -> None:
    page = opened(documents.mixture(layers=2, experts=5))
    cell = page.locator('[role="gridcell"][aria-label^="mlp.up, layer 1"]')
    assert "median of 5 matrices" in (cell.get_attribute("aria-label") or "")
    cell.click()
    table = matrices(page)
    assert len(rows_of(table)) == 5
    assert all("layers.1" in name and "up" in name for name in column(table, "matrix"))
    assert "mlp.up, layer 1" in focused(page)
    page.keyboard.press("Enter")
    assert len(rows_of(table)) == 25


def test_intruders_are_crossed_and_open(opened: Opened) -> None:
    found = documents.diff(SMALL)
    page = opened(found, documents.spectrum(SMALL))
    grid = page.locator('[role="grid"]').nth(1)
    cell = grid.locator('[role="gridcell"]').filter(has=page.locator(".cross")).first
    said = cell.get_attribute("aria-label") or ""
    assert said.endswith("An intruder")
    total = sum(row["intruders"] for row in found["rows"])
    assert grid.locator(".cross:not(.under)").count() == total > 0
    cell.click()
    panel = page.locator("#inspector")
    assert panel.locator("h2").text_content() == said.split("\n")[0]
    expect(panel.locator("path.bad")).to_have_count(1)
    expect(panel.locator("svg.esd")).to_be_visible()  # of the base, from the other result
    assert panel.locator("h3").all_text_contents() == [
        "What fine-tuning changed: acme/big → out/tuned", "Singular spectra: acme/big",
    ]  # fmt: skip  # the answer that was clicked comes first


def test_the_cut_is_drawn_and_stepped_through(opened: Opened) -> None:
    found = documents.kappa(SMALL)
    page = opened(found)
    picture = page.locator("svg:has(.cutline)")
    lowest = min(found["rows"], key=lambda row: row["kappa"])
    picture.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_contain_text(lowest["matrix"])
    expect(page.locator("#tip")).to_contain_text("1 of 21, selected")
    expect(page.locator("#live")).to_contain_text(lowest["matrix"])
    page.keyboard.press("Enter")
    expect(page.locator("#inspector h2")).to_have_text(lowest["matrix"])


def test_what_was_stopped_early_is_told_by_its_bound(opened: Opened) -> None:
    found = documents.stopped(SMALL)
    page = opened(found)
    table = matrices(page)
    count = found["summary"]["outside"]
    cells = column(table, "κ")
    assert sum(cell.startswith("> ") for cell in cells) == count > 5
    bounds = [float(cell.strip("> ").replace(",", "")) for cell in cells]
    assert bounds == sorted(bounds)
    expect(page.get_by_text(f"{count} more lie above the cut")).to_be_visible()
    row = next(row for row in found["rows"] if row["status"] == "outside")
    cell = page.locator(f'[role="gridcell"][aria-label^="{row["role"]}, layer {row["layer"]}"]')
    assert "above the cut" in (cell.first.get_attribute("aria-label") or "")


def test_findings_are_filtered_and_lead_to_their_matrix(opened: Opened) -> None:
    found = documents.check(SMALL)
    found["summary"]["findings"] *= 3
    page = opened(found)
    table = page.locator("#r1 .table").first
    table.get_by_label("severity").select_option("error")
    expect(page.locator("#live")).to_have_text("6 of 12 findings")
    assert {text.strip("✕▲● ") for text in column(table, "severity")} == {"error"}
    table.locator("tbody .open").first.click()
    panel = page.locator("#inspector")
    expect(panel).to_contain_text("3 NaN, first at [8, 7]")
    expect(panel).to_contain_text("non-finite")


def test_the_worst_link_opens_the_matrix(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    link = page.locator("#worst a").first
    name = link.text_content()
    link.click()
    expect(page.locator("#inspector h2")).to_have_text(name or "")
    page.get_by_role("button", name="Next matrix").click()
    expect(page.locator("#inspector h2")).not_to_have_text(name or "")
    page.get_by_role("button", name="Previous matrix").click()
    expect(page.locator("#inspector h2")).to_have_text(name or "")
    page.get_by_role("button", name="Close").click()
    assert focused(page) == name


def test_a_command_is_copied(opened: Opened) -> None:
    page = opened(documents.kappa(SMALL))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#r1 .copy").click()
    expect(page.locator("#r1 .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "spectra kappa acme/big --select 10% -o kappa.json"


def test_themes_follow_the_system_and_the_button(opened: Opened) -> None:
    page = opened(documents.spectrum(1))
    shade = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(shade)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(shade)
    assert (light, dark) == ("rgb(245, 246, 248)", "rgb(15, 19, 23)")
    button = page.locator("#theme")
    expect(button).to_have_text("Light theme")
    button.click()
    assert page.evaluate(shade) == light
    expect(button).to_have_text("Dark theme")
    button.click()
    assert page.evaluate(shade) == dark


def test_an_open_matrix_leaves_the_heading_free(opened: Opened) -> None:
    page = opened(documents.check(2), width=1400)
    page.locator("a.open").first.click()
    panel, head = (page.locator(one).bounding_box() for one in ("#inspector", "header"))
    assert panel is not None
    assert head is not None
    assert panel["y"] == pytest.approx(head["y"] + head["height"], abs=1)
    shade = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(shade)
    page.locator("#theme").click()
    assert page.evaluate(shade) != before
    expect(page.locator("#inspector")).to_be_visible()


def test_on_paper_everything_is_open_and_nothing_is_a_control(opened: Opened) -> None:
    page = opened(documents.spectrum(8), scheme="dark")
    page.emulate_media(media="print")
    expect(matrices(page).locator("tbody tr")).to_have_count(57)
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    for control in ("#theme", ".copy", ".tools label", "nav", ".onward"):
        expect(page.locator(control).first).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(21, 25, 30)"
    page.emulate_media(media="screen")
    expect(matrices(page).locator("tbody tr")).to_have_count(25)
    assert not page.evaluate("[...document.querySelectorAll('details')].some(d => d.open)")


def test_paper_is_wide_enough(opened: Opened) -> None:
    page = opened(*(make(2) for make in (documents.EVERY | documents.SERIES).values()))
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
    assert page.evaluate("document.documentElement.scrollWidth") == 718
    outside = page.evaluate(
        "[...document.querySelectorAll('main table, main svg')].filter("
        "one => one.getBoundingClientRect().right > 718).length"
    )
    assert outside == 0
    expect(page.get_by_role("heading", name="Intruder dimensions")).to_be_visible()


def test_hostile_names_stay_names(opened: Opened) -> None:
    page = opened(documents.hostile())
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    table = matrices(page)
    assert documents.HOSTILE[0] in column(table, "matrix")
    for i in range(len(documents.HOSTILE)):
        table.locator("tbody .open").nth(i).click()
        expect(page.locator("#inspector h2")).to_have_text(column(table, "matrix")[i])
    table.get_by_label("Filter matrices").fill("<img")
    assert column(table, "matrix") == [documents.HOSTILE[1]]
    page.locator('[role="gridcell"]').first.hover()
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_without_scripts_there_are_sentences_and_tables(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL), documents.check(SMALL), scripts=False)
    expect(page.get_by_text("Without scripts")).to_be_visible()
    assert page.locator("#r1 table").first.locator("tbody tr").count() == 22
    expect(page.locator("#theme")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_the_page_never_scrolls_sideways(opened: Opened, width: int) -> None:
    page = opened(*(make(32) for make in documents.EVERY.values()), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#worst a").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    panel = page.locator("#inspector").bounding_box()
    assert panel is not None
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= width + 1


def test_a_heatmap_fits_the_window_again(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    cell = page.locator('[role="gridcell"]').first
    assert float(cell.locator(".box").get_attribute("width") or 0) == 74
    page.set_viewport_size({"width": 360, "height": 800})
    expect(cell.locator(".box")).not_to_have_attribute("width", "74")
    picture = page.locator('[role="grid"]').bounding_box()
    assert picture is not None
    assert picture["x"] + picture["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_wcag_aa_is_broken(opened: Opened, scheme: str) -> None:
    every = documents.EVERY | documents.SERIES
    page = opened(*(make(1) for make in every.values()), scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options: dict[str, object] = {
        "runOnly": {"type": "tag", "values": tags},
        "resultTypes": ["violations"],
    }
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    page.locator("#worst a[data-name]").first.click()
    expect(page.locator("#inspector svg.esd").first).to_be_visible()
    assert broken(page, options) == []


def broken(page: Page, options: dict[str, object]) -> list[str]:
    found = page.evaluate("options => axe.run(options)", options)
    assert len(found["passes"]) > 20
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}"
        for one in found["violations"]
    ]


def test_the_first_stop_of_the_keyboard_skips_to_the_results(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_visible_ring_marks_the_focus(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL))
    matrices(page).get_by_label("Filter matrices").focus()
    page.keyboard.press("Tab")
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "3px"


def test_what_loading_takes(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    page = opened(*(make(32, 4096) for make in documents.EVERY.values()))
    took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    with capsys.disabled():
        print(f"\n32 layers, four results: loaded in {took:.0f} ms")  # noqa: T201 - told, not judged
    assert page.locator("section.result").count() == 4
    assert page.locator(".table tbody tr").count() > 75


def test_the_address_names_the_matrix_and_opens_it_again(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL), documents.diff(SMALL))
    plain = page.url
    link = matrices(page, "#r2").locator("tbody .open").nth(2)
    name = link.text_content() or ""
    link.click()
    assert f"#matrix={name}&in=r2" in page.url
    shared = page.url
    page.get_by_role("button", name="Next matrix").click()
    assert page.url not in (shared, plain)
    page.go_back()  # the buttons take no step of their own
    expect(page.locator("#inspector")).to_be_hidden()
    assert page.url == plain
    page.go_forward()
    expect(page.locator("#inspector")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    assert "#" not in page.url
    page.goto("about:blank")
    page.goto(shared)
    expect(page.locator("#inspector h2")).to_have_text(name)
    expect(page.locator("#inspector h3").first).to_contain_text("What fine-tuning changed")
    page.reload()
    expect(page.locator("#inspector h2")).to_have_text(name)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == shared


def test_a_link_to_a_matrix_of_another_page_says_so(opened: Opened) -> None:
    page = opened(documents.spectrum(1))
    page.goto(page.url + "#matrix=of.another.model")
    expect(page.locator("#missing")).to_contain_text("no matrix of the name of.another.model")
    expect(page.locator("#inspector")).to_be_hidden()


def test_a_link_that_fits_in_part_says_which_part(opened: Opened) -> None:
    page = opened(documents.spectrum(1))
    name = documents.spectrum(1)["rows"][1]["matrix"]
    page.goto(page.url + f"#matrix={name}&in=r7")
    expect(page.locator("#inspector h2")).to_have_text(name)
    expect(page.locator("#inspector .without")).to_contain_text("does not have the matrix")
    page.evaluate("scrollTo(0, 900); location.hash = '#matrix=of.another.model&in=r1'")
    expect(page.locator("#inspector")).to_be_hidden()
    expect(page.locator("#missing")).to_be_in_viewport()
    page.evaluate("name => { location.hash = `#matrix=${name}&in=r1`; }", name)
    expect(page.locator("#missing")).to_be_hidden()
    expect(page.locator("#inspector .without")).to_have_count(0)


def test_the_theme_that_was_chosen_is_kept(opened: Opened) -> None:
    page = opened(documents.spectrum(1))
    page.locator("#theme").click()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    expect(page.locator("#theme")).to_have_text("Light theme")


def test_every_table_is_saved_as_csv_as_it_is_filtered(opened: Opened) -> None:
    found = documents.check(SMALL)
    found["rows"][2]["status"] = 'odd, "quoted"'
    page = opened(documents.spectrum(SMALL), documents.diff(SMALL))
    tables = page.locator(".table")
    assert page.locator(".table .csv").count() == tables.count() == 4
    page.locator("#r1 summary").filter(has_text="Skipped").click()
    with page.expect_download() as download:
        page.locator("#r1").get_by_role("button", name="CSV of skipped tensors").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines == ["tensor,reason", "model.norm.weight,one-dimensional"]
    table = matrices(page)
    table.get_by_label("role").select_option("attn.k")
    with page.expect_download() as download:
        table.get_by_role("button", name="CSV of matrices").click()
    assert download.value.suggested_filename == "spectrum-matrices.csv"
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    expected = [row for row in documents.spectrum(SMALL)["rows"] if row["role"] == "attn.k"]
    assert {row["matrix"] for row in rows} == {row["matrix"] for row in expected}
    told = {row["matrix"]: float(row["frobenius"]) for row in rows}  # a column that is not shown
    for row in expected:
        assert told[row["matrix"]] == pytest.approx(row["frobenius"], rel=1e-5)


def test_a_cell_of_the_diff_opens_the_diff_and_marks_what_it_shows(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL), documents.diff(SMALL))
    page.locator("#r2").get_by_label("Colour by").select_option(label="change")
    page.locator('#r2 [role="gridcell"][aria-label^="attn.q, layer 1"]').first.click()
    panel = page.locator("#inspector")
    expect(panel.locator("h3").first).to_contain_text("What fine-tuning changed")
    expect(panel.locator(".asked dt")).to_have_text("change")
    assert panel.evaluate("one => one.scrollTop") == 0


def test_base_and_tuned_lie_over_each_other(opened: Opened) -> None:
    tuned = documents.spectrum(SMALL)
    tuned["models"][0] |= {"spec": "out/tuned", "resolved": "out/tuned"}
    for row in tuned["rows"]:
        row["sigma_profile"] = [1.5 * sigma for sigma in row["sigma_profile"]]
    page = opened(documents.spectrum(SMALL), tuned, documents.diff(SMALL))
    page.locator('#r3 [role="gridcell"][aria-label^="attn.q, layer 1"]').first.click()
    panel = page.locator("#inspector")
    expect(panel.locator("h3")).to_contain_text(["What fine-tuning", "Base and tuned"])
    expect(panel.locator("svg.esd")).to_have_count(1)
    expect(panel.locator("svg.scree-plot .curve")).to_have_count(2)
    label = panel.locator("svg.scree-plot").get_attribute("aria-label") or ""
    first, last = (float(text.split(" ")[1]) for text in label.split(": ")[1].split("; "))
    assert last == pytest.approx(1.5 * first, rel=0.01)


def over_each_other(tuned: documents.Document) -> tuple[documents.Document, ...]:
    tuned["models"][0] |= {"spec": "out/tuned", "resolved": "out/tuned"}
    return documents.spectrum(SMALL), tuned, documents.diff(SMALL)


def test_a_matrix_of_zeros_is_said_to_have_no_curve(opened: Opened) -> None:
    tuned = documents.spectrum(SMALL)
    tuned["rows"][2] |= {"status": "singular", "kappa": None, "sigma_max": 0.0}
    tuned["rows"][2]["sigma_profile"] = [0.0] * 65
    page = opened(*over_each_other(tuned))
    page.locator('#r3 [role="gridcell"][aria-label^="attn.k, layer 0"]').first.click()
    panel = page.locator("#inspector")
    expect(panel).to_contain_text("Every singular value of tuned is 0: it has no curve.")
    expect(panel).to_contain_text("Spectral density of base")


def test_a_tuned_matrix_with_nan_is_said_to_have_no_spectrum(opened: Opened) -> None:
    tuned = documents.spectrum(SMALL)
    tuned["rows"][2] |= {"status": "non-finite", "error": "1 NaN", "sigma_profile": None}
    page = opened(*over_each_other(tuned))
    page.locator('#r3 [role="gridcell"][aria-label^="attn.k, layer 0"]').first.click()
    expect(page.locator("#inspector .without")).to_have_text(
        "The tuned matrix has no spectrum: it holds NaN or Inf, or could not be measured."
    )


def test_a_spectrum_that_is_not_on_the_page_is_said_to_be_missing(opened: Opened) -> None:
    found = documents.diff(SMALL)
    found["summary"]["unpaired"] = {
        "base": {"matrices": 1, "unpaired": 0}, "tuned": {"matrices": 0, "unpaired": 0},
        "adapter": {"modules": 1, "unpaired": 0},
    }  # fmt: skip
    page = opened(documents.spectrum(SMALL), found)
    page.locator('#r2 [role="gridcell"][aria-label^="attn.k, layer 0"]').first.click()
    expect(page.locator("#inspector .without")).to_have_text(
        "No spectrum of the tuned model is in this page. Add the result of: "
        "spectra spectrum out/tuned --base acme/big -o tuned-spectrum.json"
    )


def test_the_first_column_stays_while_others_pass(opened: Opened) -> None:
    page = opened(documents.spectrum(SMALL), width=390)
    frame = matrices(page).locator(".frame")
    frame.evaluate("one => { one.scrollLeft = 300; one.scrollTop = 200; }")
    assert frame.evaluate("one => one.scrollLeft") > 200
    left = frame.evaluate("one => one.getBoundingClientRect().left")
    name = matrices(page).locator("tbody th").first.bounding_box()
    heads = (
        matrices(page)
        .locator("thead th")
        .evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.top])"
        )
    )
    top = frame.evaluate("one => one.getBoundingClientRect().top")
    assert {round(place[1] - top) for place in heads} <= {0, 1}  # the headings stay as well
    edge = heads[0][0] + matrices(page).locator("thead th").first.evaluate("one => one.offsetWidth")
    assert min(abs(place[0] - edge) for place in heads[1:]) < 2  # and cut no column through
    assert name is not None
    assert name["x"] == pytest.approx(left, abs=2)
    assert name["width"] < 195  # half of the screen is left for numbers


def test_the_ranking_is_readable_on_a_phone(opened: Opened) -> None:
    page = opened(documents.kappa(12), width=390)
    picture = page.locator("svg:has(.cutline)")
    box = picture.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    scale = picture.evaluate("one => one.getBoundingClientRect().width / one.viewBox.baseVal.width")
    assert scale == pytest.approx(1, abs=0.01)  # letters are as large as elsewhere


def test_bad_is_the_dark_red_end_in_every_heat_map(opened: Opened) -> None:
    """High for a condition number, low for a cosine."""

    def shades(label: str, pattern: str) -> list[tuple[float, float]]:
        page.get_by_label("Colour by").last.select_option(label=label)
        cells = page.locator('#r1 [role="grid"]').first.locator('[role="gridcell"]')
        found = []
        for said, fill in cells.evaluate_all(
            "all => all.map(c => [c.getAttribute('aria-label'), c.firstChild.getAttribute('fill')])"
        ):
            value = re.search(pattern, said)
            if value and fill:
                shade = sum(map(int, re.findall(r"\d+", fill)))
                found.append((float(value[1].replace(",", "")), shade))
        return sorted(found)

    found = documents.spectrum(SMALL + 1)
    found["rows"][5]["kappa"] = 9e9
    page = opened(found)
    kappas = shades("κ", r"κ ([\d,.e]+)")
    assert kappas[-1][1] < kappas[0][1]
    page = opened(documents.diff(SMALL))
    cosines = shades("lowest |cos|", r"\|cos\| ([\d.]+)")
    assert cosines[-1][1] > cosines[0][1]


def fills(page: Page) -> set[str]:
    cells = page.locator('#r1 [role="gridcell"] .box')
    return set(cells.evaluate_all("all => all.map(one => one.getAttribute('fill'))"))


def test_a_heat_map_of_a_passing_check_has_no_red(opened: Opened) -> None:
    found = documents.check(SMALL + 1)
    found["rows"] = [row for row in found["rows"] if row["status"] == "ok"]
    found["summary"] |= {"passed": True, "exit_code": 0, "reading": "PASS  no findings."}
    found["summary"]["findings"] = []
    page = opened(found)
    grey = ",".join(str(part) for part in bytes.fromhex(RAMPS["bad"][0][1:]))
    assert fills(page) == {f"rgb({grey})"}
    page.get_by_label("Colour by").select_option(label="κ")
    assert fills(page) == {f"rgb({grey})"}
    page.get_by_label("Colour by").select_option(label="stable rank")
    for red, _, blue in (map(int, re.findall(r"\d+", fill)) for fill in fills(page)):
        assert blue >= red


def test_nan_in_a_heat_map_is_hatched_and_told(opened: Opened) -> None:
    found = documents.spectrum(SMALL)
    found["rows"][1] |= {"status": "non-finite", "error": "1 NaN", "kappa": None, "alpha": None}
    found["rows"][2]["alpha"] = None
    page = opened(found)
    cell = page.locator(
        '[role="gridcell"][aria-label="attn.q, layer 0\\ano numbers, such as of NaN or Inf"]'
    )
    assert (cell.locator(".box").get_attribute("fill") or "").startswith("url(#")
    legend = page.locator("#r1 .legend").first
    expect(legend).to_contain_text("hatched: no numbers, such as of NaN or Inf")
    page.get_by_label("Colour by").select_option(label="α")
    expect(legend).to_contain_text("–: has no such value")


def test_numbers_are_spelled_as_everywhere_else(opened: Opened) -> None:
    """Two programs write them; over many values they must agree."""
    source = random.Random(7)  # noqa: S311 - no secret
    values = [kept(source.choice((-1, 1)) * 10 ** source.uniform(-12, 12)) for _ in range(4000)]
    values += [kept(digits / 10**power) for digits in range(9990, 10010) for power in range(-4, 9)]
    values += [kept(base + half) for base in range(1, 1100, 7) for half in (0.5, 0.25, 0.125)]
    values += [0.0, 1.0, 1e6, 999_950.0, 0.001, 0.00099995, 1e-300, 1e300]
    shares = [kept(source.random()) for _ in range(2000)] + [0.9996, 0.99999, 1.0, 0.0, 1e-9, 12.5]
    page = opened(documents.spectrum(1))
    told = page.evaluate(
        "([values, shares]) => [values.map(v => few(v)), values.map(signed), values.map(whole), "
        "shares.map(percent), values.map(v => shown('cosine', v))]", [values, shares],
    )  # fmt: skip
    assert told[0] == [number(value) for value in values]
    small = [place for place, value in enumerate(values) if abs(value) < 100]
    assert [told[1][place] for place in small] == [signed(values[place]) for place in small]
    assert [told[4][place] for place in small] == [hundredths(values[place]) for place in small]
    counts = [
        place for place, value in enumerate(values) if value.is_integer() and abs(value) < 1e15
    ]
    assert [told[2][place] for place in counts] == [whole(values[place]) for place in counts]
    assert told[3] == [percent(share) for share in shares]


def test_a_check_that_passes_has_no_red_pill(opened: Opened) -> None:
    found = documents.check(SMALL)
    found["rows"] = [row for row in found["rows"] if row["status"] == "ok"]
    found["summary"] |= {"passed": True, "exit_code": 0, "reading": "PASS  no findings."}
    findings = found["summary"]["findings"]
    for one in findings:
        one["state"] = "gone"
    findings[1]["state"] = "unchanged"
    for rule in found["summary"]["rules"]:
        rule["findings"] = 0
    page = opened(found)
    expect(page.locator(".badge.passed").first).to_be_visible()
    expect(page.locator(".badge.error")).to_have_count(0)
    expect(page.locator("#r1 .table").nth(2).locator(".badge")).to_contain_text(
        ["not judged", "passed"], use_inner_text=True
    )


def test_a_singular_cell_is_as_dark_as_the_worst(opened: Opened) -> None:
    found = documents.spectrum(SMALL)
    found["rows"][1] |= {"status": "singular", "kappa": None, "sigma_min": 0.0}
    page = opened(found)
    cell = page.locator('[role="gridcell"][aria-label*="singular"]').first
    dark = ", ".join(str(part) for part in bytes.fromhex(RAMPS["bad"][-1][1:]))
    assert (cell.locator(".box").get_attribute("fill") or "").replace(",", ", ") == f"rgb({dark})"


def test_a_check_counts_tensors_where_not_all_are_matrices(opened: Opened) -> None:
    found = documents.check(SMALL)
    found["rows"][0]["role"] = "vector"
    expect(matrices(opened(found)).locator("caption")).to_have_text(f"{len(found['rows'])} tensors")


def test_no_word_of_the_panel_lies_over_a_mark(opened: Opened) -> None:
    found = documents.diff(SMALL)
    for row in found["rows"]:
        for item in row["intruder_detail"][-3:]:
            item |= {"max_cos": 0.15, "intruder": True}
    page = opened(found, documents.spectrum(SMALL))
    page.locator('#r1 [role="gridcell"][aria-label^="attn.k, layer 0"]').first.click()
    boxes = (
        "all => all.map(one => one.getBoundingClientRect())"
        ".map(box => [box.left, box.right, box.top, box.bottom])"
    )
    panel = page.locator("#inspector")
    words = panel.locator("svg .limitword, svg .chanceword").evaluate_all(boxes)
    marks = panel.locator("svg path.dots, svg path.bad").evaluate_all(boxes)
    assert len(words) == len(marks) == 2
    assert min(left for left, *_ in words) >= max(right for _, right, *_ in marks)
    ((_, end, *_),) = panel.locator("svg:has(.limitword)").evaluate_all(boxes)
    assert max(right for _, right, *_ in words) <= end  # nor is one cut off
    (edge,) = panel.locator("svg.esd text.ink").evaluate_all(boxes)
    bars = panel.locator("svg.esd .hist").evaluate_all(boxes)
    assert all(top >= edge[3] - 3 for _, _, top, _ in bars)


def test_the_heatmap_of_heads_tells_each_and_opens_it(opened: Opened) -> None:
    rows = [
        {**row, "matrix": f"{row['matrix']}[head={head}]", "head": head, "kv_head": head // 2,
         "copying": 0.1 * head - 0.25 * row["layer"], "ov_sigma_max": 1.0 + head}
        for row in documents.spectrum(3)["rows"] if row["role"] == "attn.q" for head in range(12)
    ]  # fmt: skip
    counts = dict.fromkeys(("heads", "modules", "dead", "twins", "tied", "unknown"), 0)
    made = documents.spectrum(3)
    document = made | {"command": "heads", "rows": rows, "summary": made["summary"] | counts}
    page = opened(document)
    names = page.locator('#r1 [role="rowheader"]')
    expect(names).to_have_count(12)
    assert names.nth(10).get_attribute("aria-label") == "head 10"
    cell = page.locator('#r1 [role="gridcell"][aria-label^="head 10, layer 1"]')
    cell.hover()
    expect(page.locator("#tip")).to_contain_text("copying 0.75")
    expect(page.locator("#tip")).to_contain_text("OV σ max 11")  # and what else is known of it
    takes = page.locator('#r1 [role="gridcell"][aria-label^="head 0, layer 2"]')
    shades = [one.locator("rect").first.get_attribute("fill") or "" for one in (cell, takes)]
    (red, _, blue), (other_red, _, other_blue) = (
        map(int, re.findall(r"\d+", shade)) for shade in shades
    )
    assert red < blue  # it copies
    assert other_red > other_blue  # it takes away what it reads
    takes.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#tip")).to_have_text("head 0, layer 2\ncopying -0.5\nOV σ max 1")
    cell.click()
    expect(page.locator("#inspector h2")).to_contain_text("[head=10]")


def test_the_panel_tells_directions_in_tokens(opened: Opened) -> None:
    document = documents.spectrum(SMALL)
    hostile = "</script><img src=x onerror=document.title='taken'>\x1b"
    ends = {
        end: [{"id": at, "token": token, "weight": 1.0 - at} for at, token in enumerate(some)]
        for end, some in (("highest", [" first", hostile]), ("lowest", ["\n", "last"]))
    }  # fmt: skip
    first, second, *_ = document["rows"]
    first |= {"tokens_status": "ok", "tokens": [{
        "of": "component", "index": 0, "sigma": 2.0, "does": "writes", "tied": True,
        "folded": "rms", "through": "output head", **ends,
    }]}  # fmt: skip
    second |= {"tokens_status": "its 8 inputs are not the 64 numbers of the stream", "tokens": []}
    page = opened(document)
    for row, told in (
        (first, ["component 0, tied: writes", "␣first </script><img␣src=x␣onerror=document.ti…",
                 "↔ \\n last"]),
        (second, ["none is told", "its 8 inputs are not the 64 numbers of the stream"]),
    ):  # fmt: skip
        page.evaluate("leave()")
        matrices(page).get_by_text(row["matrix"], exact=True).first.click()
        texts = page.locator("#inspector dl.tokens").locator("dt, dd").all_text_contents()
        assert texts == told
    assert page.title() != "taken"
