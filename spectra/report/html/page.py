"""The whole page: head, overview, sections, and the data that its scripts draw."""

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from spectra.policy import Policy
from spectra.policy.policy import rules_of
from spectra.report.colours import RAMPS, SIGNED
from spectra.report.html.encode import Names, embedded, shortened
from spectra.report.html.markup import badge, command, text
from spectra.report.html.section import Section, answer, section_of, written
from spectra.report.html.subject import headline, named, others_of, verdict
from spectra.report.html.tables import rooms
from spectra.report.html.worst import MOST, Trouble, severity_of, worst_of
from spectra.report.kind import Document, kind_of
from spectra.report.sentences import figures
from spectra.text import printable

SCRIPTS = ("core", "address", "table", "heatmap", "charts", "series", "inspector", "page")
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


def render_page(sources: Sequence[Source], again: str = "") -> str:
    """Return one HTML file that asks for nothing outside itself; the same for the same results.

    Args:
        sources: One result or more, in the order of the sections. Documents must have passed
            `spectra.report.saved.checked`, or be those of a `Result`.
        again: The command that made the page with its results; none: of saved ones.
    """
    room = rooms([len(source.document["rows"]) for source in sources])
    policies = [_policy(one.document) for one in sources]
    first = next((one for one in policies if one is not None), None)
    sections = [
        section_of(source.document, f"r{place}", source.saved, most, policies[place - 1] or first)
        for place, (source, most) in enumerate(zip(sources, room, strict=True), 1)
    ]
    titles = Counter(section.title for section in sections)
    sections = [replace(section, apart=titles[section.title] > 1) for section in sections]
    names = Names()
    others = others_of(sections)
    troubles = worst_of([(section.ident, section.document) for section in sections], others)
    sections = worst_first(sections, others)
    body = _body(sections, troubles, names, again)
    data = {
        "ramps": {str(name): stops for name, stops in RAMPS.items()} | {"signed": SIGNED},
        "sections": [section.plain(names) for section in sections],
    }
    style, script = _asset(STYLES, "css"), _asset(SCRIPTS, "js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = f"{verdict(sections, troubles)[1]}: {named(sections)} - spectra"
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


def _policy(document: Document) -> Policy | None:
    """Return what a check judged by; None of other results."""
    judges = kind_of(document["command"]).judges
    return rules_of(document["settings"]) if judges else None


def worst_first(sections: Sequence[Section], others: Container[str]) -> list[Section]:
    """Return verdicts, then sections by the worst that they tell, those of other models last."""

    def rank(section: Section) -> tuple[bool, bool, tuple[bool, int, bool, int]]:
        judges = kind_of(section.document["command"]).judges
        return not judges, section.ident in others, severity_of(section.document)

    return sorted(sections, key=rank)


def _body(sections: Sequence[Section], troubles: Sequence[Trouble], names: Names, made: str) -> str:
    topics = Counter(section.topic for section in sections)
    links = "".join(
        f'<li><a href="#{section.ident}">'
        f"{text(section.topic if topics[section.topic] == 1 else section.title)}</a></li>"
        for section in sections
    )
    cards = "".join(_card(section) for section in sections)
    given = sorted(sections, key=lambda section: int(section.ident[1:]))
    again = printable(made) or " ".join(
        ["spectra report", *(printable(shlex.quote(section.saved)) for section in given),
         "-o report.html"]
    )  # fmt: skip
    alone = "" if made else " from saved results alone; no weights were read"
    versions = ", ".join(dict.fromkeys(str(s.document["spectra"]) for s in sections))
    return (
        '<a class="skip" href="#main">Skip to the results</a>\n'
        f'<header><div class="bar"><a class="brand" href="#main">{MARK}<span>spectra</span></a>'
        '<button type="button" id="theme" hidden>Dark theme</button></div>'
        f'<nav aria-label="Results"><ul>{links}</ul></nav></header>\n'
        f'<main id="main" tabindex="-1">{headline(sections, troubles)}'
        '<p id="missing" hidden></p>'
        '<p id="plain">Without scripts there are no pictures, and tables show their first rows.</p>'
        f'{_worst(troubles, names)}<div class="cards">{cards}</div>'
        f"{''.join(written(section) for section in sections)}</main>\n"
        f"<footer><p>Written by spectra {text(versions)}{alone}; nothing is loaded from "
        "elsewhere. This page again:</p>"
        f"{command(again, 'page-command')}</footer>\n"
        '<aside id="inspector" hidden aria-labelledby="inspector-title"></aside>\n'
        '<div id="live" role="status" aria-live="polite" class="quiet"></div>'
        '<div id="tip" role="tooltip" hidden></div>'
    )


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


def _worst(troubles: Sequence[Trouble], names: Names) -> str:
    if not troubles:
        return ""
    items = "".join(_line(trouble, names) for trouble in troubles[:MOST])
    rest = len(troubles) - MOST
    more = f'<p class="more">{rest:,} more in the sections below.</p>' if rest > 0 else ""
    return (
        '<section aria-labelledby="worst-title" id="worst"><h2 id="worst-title">Worst first</h2>'
        f"<ol>{items}</ol>{more}</section>"
    )


def _line(trouble: Trouble, names: Names) -> str:
    """Return one line of it: a mark, a link to the matrix, and every fact about it."""
    line = trouble.first
    look = badge("known", line.mark) if line.known else badge(line.mark)
    subject = ""
    if line.matrix is not None:
        opens = f' data-name="{names.place(line.matrix)}"' if line.opens else ""
        name = text(shortened(line.matrix)).replace(".", ".<wbr>")
        subject = (
            f'<a href="#{line.section}" data-in="{line.section}"{opens}><code>{name}</code></a> '
        )
    elif line.section:
        subject = f'<a href="#{line.section}">the model</a> '
    facts = "".join(f"<li>{text(fact.text)}</li>" for fact in trouble.facts)
    return f"<li>{look} {subject}<ul>{facts}</ul></li>"


@cache
def _asset(names: tuple[str, ...], suffix: str) -> str:
    folder = files("spectra.report.html") / "assets"
    return "\n".join((folder / f"{name}.{suffix}").read_text("utf-8") for name in names)


def _digest(content: str) -> str:
    """Return what a Content-Security-Policy knows an inline element by."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
