"""A real browser, where there is one; CI must have it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from report.html.documents import Document
from spectra.report.document import checked
from spectra.report.html import Source, render_page

Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    """Open a page of these results; whatever it logs or asks for fails the test."""
    wrong: list[str] = []
    contexts = []

    def call(
        *found: Document, scheme: str = "light", width: int = 1280, scripts: bool = True
    ) -> Page:
        for document in found:
            checked(document, "made up")
        path = tmp_path / "report.html"
        sources = [Source(one, f"{one['command']}.json") for one in found]
        path.write_text(render_page(sources), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: None if request.url in (path.as_uri(), "data:,")
            else wrong.append(request.url),
        )  # fmt: skip
        page.goto(path.as_uri())
        return page

    yield call
    for context in contexts:
        context.close()
    assert wrong == []
