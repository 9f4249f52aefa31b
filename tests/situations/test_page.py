"""First-user situations on the page, in a real browser: what is clicked, and what is then seen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

import sick
from situations.terminal import Desk

SCREENS = [(1400, "light"), (390, "dark")]  # each width and each theme; neither knows the other
IDS = [f"{width} px, {scheme}" for width, scheme in SCREENS]
PAGES = {
    "healthy.html": "report check.json diff.json spectrum.json kappa.json -o healthy.html",
    "broken.html": "report broken.json -o broken.html",
    "lora.html": "report adapter --base minilm -o lora.html",
    "wreck.html": "report wreck --base minilm -o wreck.html",
}
BROKEN, EMPTY, FLAT = (
    f"encoder.layer.{name}.weight"
    for name in ("3.intermediate.dense", "2.attention.self.query", "4.output.dense")
)


@pytest.fixture(scope="module")
def pages(desk: Desk) -> dict[str, Path]:
    tensors = sick.read(desk.folder / "minilm")
    tensors[BROKEN][7, 100] = torch.nan
    tensors[EMPTY].zero_()
    u, sigma, v = torch.linalg.svd(tensors[FLAT], full_matrices=False)
    tensors[FLAT] = (u[:, :3] * sigma[:3]) @ v[:3]
    sick.write(desk.folder / "minilm", desk.folder / "wreck", tensors)
    for line in PAGES.values():
        assert desk.type(line.split(), 0, {}).code == 0
    return {name: desk.folder / name for name in PAGES}


@pytest.fixture(params=SCREENS, ids=IDS)
def screen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new window of this width and theme; what goes wrong in it, or out of it, fails."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on(
        "request",
        lambda one: None if one.url.startswith(("file:", "data:", "blob:"))
        else wrong.append(one.url),
    )  # fmt: skip
    yield page
    context.close()
    assert wrong == []


def fits(page: Page) -> bool:
    wide: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return wide


def test_a_healthy_release_looks_like_one(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["healthy.html"].as_uri())
    head = screen.locator("h1").first
    expect(head).to_contain_text("minilm")
    expect(head.or_(head.locator("xpath=.."))).to_contain_text(["PASS"])
    assert screen.locator(".badge.error").count() == 0
    text = screen.locator("body").inner_text()
    assert "FAIL" not in text
    assert not re.search(r"\bW[01]\b", text)
    assert fits(screen)


def test_a_broken_release_tells_one_nan_once(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["broken.html"].as_uri())
    assert screen.locator("body").inner_text().index("FAIL") < 400
    worst = screen.locator("#worst").inner_text()
    assert worst.count("encoder.layer.3.intermediate.dense.weight") == 1
    assert worst.count("[700, 100]") == 1
    assert fits(screen)


def test_a_click_on_an_intruder_shows_its_picture(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["healthy.html"].as_uri())
    link = screen.locator("#worst a[data-name]").filter(has_text="layer.5.intermediate").first
    name = link.text_content()
    link.click()
    panel = screen.locator("#inspector")
    expect(panel.locator("h2")).to_have_text(str(name))
    expect(panel.locator("h3").first).to_contain_text("What fine-tuning changed")
    expect(panel.locator("svg").first).to_be_in_viewport()
    address = screen.url
    assert "#matrix=" in address
    screen.reload()
    expect(panel.locator("h2")).to_have_text(str(name))
    screen.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert fits(screen)


def test_the_theme_stays_as_it_was_chosen(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["healthy.html"].as_uri())
    before = screen.evaluate("getComputedStyle(document.body).backgroundColor")
    screen.locator("#theme").click()
    chosen = screen.evaluate("getComputedStyle(document.body).backgroundColor")
    assert chosen != before
    screen.reload()
    assert screen.evaluate("getComputedStyle(document.body).backgroundColor") == chosen


def test_names_stay_while_numbers_pass(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["healthy.html"].as_uri())
    frame = screen.locator(".result > .table .frame").last
    frame.evaluate("one => { one.scrollLeft = 10_000; }")
    left = frame.evaluate("one => one.getBoundingClientRect().left")
    name = frame.locator("tbody th").first.bounding_box()
    assert name is not None
    assert name["x"] == pytest.approx(left, abs=2)


def numbers(text: str) -> dict[str, int]:
    """Return the counts of a sentence: `8 errors, 2 warnings in 103 tensors`."""
    found = re.findall(r"([\d,]+) (error|warning|tensor|finding)s?\b", text)
    return {word: int(count.replace(",", "")) for count, word in found}


def test_the_counts_of_a_wreck_agree(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["wreck.html"].as_uri())
    lead = numbers(screen.locator(".lead").inner_text())
    check = screen.locator("#r1")
    assert numbers(check.locator(".reading").inner_text()) == lead
    card = screen.locator(".card").first.locator(".facts dd").all_inner_texts()
    assert card == [str(lead[word]) for word in ("tensor", "error", "warning")]
    told = numbers(check.locator("> .table caption").first.inner_text())
    assert told["finding"] == lead["error"] + lead["warning"]
    cells = check.locator('[role="gridcell"] text').all_text_contents()
    assert sum(map(int, cells)) == told["finding"]
    spectra = screen.locator(".card").filter(has_text="Singular spectra: wreck")
    expect(spectra.locator(".facts")).to_contain_text("singular")
    expect(spectra.locator(".facts")).to_contain_text("highest finite κ")
    assert fits(screen)


def test_the_worst_of_a_wreck_comes_first(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["wreck.html"].as_uri())
    names = screen.locator("#worst a").all_inner_texts()
    assert names[0] == BROKEN
    assert {EMPTY, FLAT} <= set(names[:3])
    lefts = {round(one["x"]) for fact in screen.locator("#worst li ul").all()
             if (one := fact.bounding_box())}  # fmt: skip
    assert len(lefts) == 1  # facts stand under each other


@pytest.mark.parametrize(
    ("name", "told"),
    [(EMPTY, "Every singular value of tuned is 0: it has no curve."),
     (BROKEN, "The tuned matrix has no spectrum: it holds NaN or Inf, or could not be measured."),
     (FLAT, "Spectra of base and tuned")],
    ids=["zero", "NaN", "collapsed"],
)  # fmt: skip
def test_spectra_of_a_wreck_lie_over_each_other_or_it_is_said_why(
    screen: Page, pages: dict[str, Path], name: str, told: str
) -> None:
    screen.goto(f"{pages['wreck.html'].as_uri()}#matrix={name}")
    panel = screen.locator("#inspector")
    expect(panel.locator("h2")).to_have_text(name)
    expect(panel).to_contain_text(told)
    expect(panel.locator("svg.esd")).to_have_count(1)


def test_a_lora_lies_over_its_base(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["lora.html"].as_uri())
    screen.locator('[role="gridcell"]').filter(has=screen.locator(".cross")).first.click()
    panel = screen.locator("#inspector")
    expect(panel.locator("h3").first).to_contain_text("What fine-tuning changed")
    expect(panel).to_contain_text("Spectra of base and tuned")
    expect(panel.locator("svg.scree-plot .curve")).to_have_count(2)
    expect(screen.locator("body")).to_contain_text("of minilm with adapter added")
    expect(screen.locator("#r2 .legend").last).to_contain_text(
        re.compile(r"by chance 0\.\d+ to 0\.")
    )


def test_nothing_is_red_where_all_passes(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["lora.html"].as_uri())
    boxes = screen.locator('#r1 [role="gridcell"] .box')
    fills = set(boxes.evaluate_all("all => all.map(one => one.getAttribute('fill'))"))
    (fill,) = fills
    red, green, blue = map(int, re.findall(r"\d+", fill))
    assert max(red, green, blue) - min(red, green, blue) < 8
    rules = screen.locator("#r1 > .table").first
    expect(rules).to_contain_text("whether a tensor holds NaN or Inf")


def test_headings_and_names_stay(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(pages["wreck.html"].as_uri())
    frame = screen.locator("#r1 > .table .frame").last
    frame.evaluate("one => { one.scrollTop = 400; one.scrollLeft = 200; }")
    top = frame.evaluate("one => one.getBoundingClientRect().top")
    head = frame.locator("thead th").first.bounding_box()
    assert head is not None
    assert head["y"] == pytest.approx(top, abs=2)
    heads = [text.strip("▲▼") for text in frame.locator("thead th").all_inner_texts()]
    assert heads[:2] == ["matrix", "status"]


def test_a_link_into_another_page_says_so(screen: Page, pages: dict[str, Path]) -> None:
    screen.goto(f"{pages['lora.html'].as_uri()}#matrix={EMPTY}")
    expect(screen.locator("#inspector")).to_be_visible()
    screen.evaluate("location.hash = '#matrix=model.layers.9.mlp.up_proj.weight&in=r1'")
    expect(screen.locator("#inspector")).to_be_hidden()
    expect(screen.locator("#missing")).to_be_in_viewport()
    expect(screen.locator("#missing")).to_contain_text("model.layers.9.mlp.up_proj.weight")


def test_every_table_has_its_csv_and_every_label_a_name(
    screen: Page, pages: dict[str, Path]
) -> None:
    screen.goto(f"{pages['wreck.html'].as_uri()}#matrix={FLAT}")
    assert screen.locator(".table").count() == screen.locator(".table button.csv").count() > 6
    labels = screen.locator("#inspector dt").all_inner_texts()
    assert len(labels) > 30
    assert not [label for label in labels if "_" in label]
    made = screen.locator(".made").inner_text()
    assert re.match(
        r"spectra [\d.]+ · made \d{4}-\d\d-\d\dT[\d:]+Z · weights base \w+:\w{12}", made
    )
