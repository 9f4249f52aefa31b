"""First-user situations on the page, in a real browser: what is clicked, and what is then seen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from situations.terminal import Desk

SCREENS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]
IDS = [f"{width} px, {scheme}" for width, scheme in SCREENS]
PAGES = {
    "healthy.html": "report check.json diff.json spectrum.json kappa.json -o healthy.html",
    "broken.html": "report broken.json -o broken.html",
}


@pytest.fixture(scope="module")
def pages(desk: Desk) -> dict[str, Path]:
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
    frame = screen.locator(".table .frame").last
    frame.evaluate("one => { one.scrollLeft = 10_000; }")
    left = frame.evaluate("one => one.getBoundingClientRect().left")
    name = frame.locator("tbody th").first.bounding_box()
    assert name is not None
    assert name["x"] == pytest.approx(left, abs=2)
