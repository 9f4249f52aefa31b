"""The whole page: head, overview, sections, and the data that its scripts draw."""

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from spectra.report.html.encode import Names, embedded, shortened
from spectra.report.html.markup import badge, command, text
from spectra.report.html.section import Section, answer, section_of, written
from spectra.report.html.tables import rooms
from spectra.report.html.worst import MOST, worst_of
from spectra.report.kind import Document, Worst
from spectra.report.sentences import figures, models_named
from spectra.text import counted, printable

SCRIPTS = ("core", "table", "heatmap", "charts", "series", "inspector", "page")
STYLES = ("theme", "page", "parts")
MARK = (
    '<svg class="mark" viewBox="0 0 28 20" aria-hidden="true" focusable="false">'
    '<path d="M2 2 C4 12 8 15 14 16.5 S24 18 26 18" fill="none" stroke="currentColor" '
    'stroke-width="2.4" stroke-linecap="round"/><circle cx="2.6" cy="3" r="2.2"/></svg>'
)


@dataclass(frozen=True, slots=True)
class Source:
    """One result and the name of the file that holds it."""

    document: Document
    saved: str


def render_page(sources: Sequence[Source]) -> str:
    """Return one HTML file that asks for nothing outside itself; the same for the same results.

    Args:
        sources: One result or more, in the order of the sections. Documents must have passed
            `spectra.report.saved.checked`, or be those of a `Result`.
    """
    room = rooms([len(source.document["rows"]) for source in sources])
    sections = [
        section_of(source.document, f"r{place}", source.saved, most)
        for place, (source, most) in enumerate(zip(sources, room, strict=True), 1)
    ]
    names = Names()
    worst = worst_of([(section.ident, section.document) for section in sections])
    body = _body(sections, worst, names)
    data = {"sections": [section.plain(names) for section in sections]}
    style, script = _asset(STYLES, "css"), _asset(SCRIPTS, "js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = "spectra report: " + ", ".join(
        dict.fromkeys(models_named(section.document) for section in sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{embedded(data | names.plain())}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _body(sections: Sequence[Section], worst: Sequence[Worst], names: Names) -> str:
    topics = Counter(section.topic for section in sections)
    links = "".join(
        f'<li><a href="#{section.ident}">'
        f"{text(section.topic if topics[section.topic] == 1 else section.title)}</a></li>"
        for section in sections
    )
    cards = "".join(_card(section) for section in sections)
    again = " ".join(
        ["spectra report", *(printable(shlex.quote(section.saved)) for section in sections),
         "-o report.html"]
    )  # fmt: skip
    versions = ", ".join(dict.fromkeys(str(s.document["spectra"]) for s in sections))
    return (
        '<a class="skip" href="#main">Skip to the results</a>\n'
        f'<header><div class="bar"><a class="brand" href="#main">{MARK}<span>spectra</span></a>'
        '<button type="button" id="theme" hidden>Dark theme</button></div>'
        f'<nav aria-label="Results"><ul>{links}</ul></nav></header>\n'
        '<main id="main" tabindex="-1"><h1>What the weights say</h1>'
        f'<p class="lead">{_lead(sections, worst)}</p>'
        '<p id="plain">Without scripts there are no pictures, and tables show their first rows.</p>'
        f'<div class="cards">{cards}</div>{_worst(worst, names)}'
        f"{''.join(written(section) for section in sections)}</main>\n"
        f"<footer><p>Written by spectra {text(versions)} from saved results alone; no weights were "
        f"read and nothing is loaded from elsewhere. This page again:</p>"
        f"{command(again, 'page-command')}</footer>\n"
        '<aside id="inspector" hidden aria-labelledby="inspector-title"></aside>\n'
        '<div id="live" role="status" aria-live="polite" class="quiet"></div>'
        '<div id="tip" role="tooltip" hidden></div>'
    )


def _lead(sections: Sequence[Section], worst: Sequence[Worst]) -> str:
    counts = Counter(line.mark for line in worst)
    told = [
        counted(counts[mark], mark, f"{mark}s") for mark in ("error", "warning") if counts[mark]
    ]
    found = " and ".join(told) or "No errors or warnings"
    where = counted(len(sections), "result", "results")
    names = dict.fromkeys(models_named(section.document) for section in sections)
    of = f" of {text(next(iter(names)))}" if len(names) == 1 else ""
    return f"{found} in {where}{of}; the worst come first. A matrix opens on a click."


def _card(section: Section) -> str:
    document = section.document
    numbers = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in figures(document)
    )  # fmt: skip
    return (
        f'<article class="card"><h2><a href="#{section.ident}">{text(section.title)}</a></h2>'
        f"<p>{answer(document)}</p>"
        f'<dl class="facts">{numbers}</dl></article>'
    )


def _worst(lines: Sequence[Worst], names: Names) -> str:
    if not lines:
        return ""
    items = "".join(_line(line, names) for line in lines[:MOST])
    rest = len(lines) - MOST
    more = f'<p class="more">{rest:,} more in the sections below.</p>' if rest > 0 else ""
    return (
        '<section aria-labelledby="worst-title" id="worst"><h2 id="worst-title">Worst first</h2>'
        f"<ol>{items}</ol>{more}</section>"
    )


def _line(line: Worst, names: Names) -> str:
    """Return one line of it: a mark, a link to the matrix, and what of it."""
    subject = ""
    if line.matrix is not None:
        opens = f' data-name="{names.place(line.matrix)}"' if line.opens else ""
        name = text(shortened(line.matrix)).replace(".", ".<wbr>")
        subject = f'<a href="#{line.section}"{opens}><code>{name}</code></a> '
    elif line.section:
        subject = f'<a href="#{line.section}">the model</a> '
    return f"<li>{badge(line.mark)} {subject}<span>{text(line.text)}</span></li>"


@cache
def _asset(names: tuple[str, ...], suffix: str) -> str:
    folder = files("spectra.report.html") / "assets"
    return "\n".join((folder / f"{name}.{suffix}").read_text("utf-8") for name in names)


def _digest(content: str) -> str:
    """Return what a Content-Security-Policy knows an inline element by."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
