"""What a page is about: the model that it judges, and what stands over everything."""

from collections.abc import Mapping, Sequence
from typing import Any

from spectra.report.html.markup import badge, text
from spectra.report.html.section import Section, tone
from spectra.report.html.worst import Trouble, told
from spectra.report.kind import Document, kind_of, noun_of
from spectra.report.sentences import made_of, models_named, sampled_alike
from spectra.text import counted

WORDS = {"error": "errors", "warning": "warnings", "passed": "PASS"}
TONES = ("error", "warning", "passed")  # of verdicts, the worst first


def others_of(sections: Sequence[Section]) -> dict[str, str]:
    """Return the sections of another model than the page is about, such as its base."""
    subject = _subject(sections)
    return {
        section.ident: models_named(section.document)
        for section in sections
        if subject and not subject & _mains(section.document)
    }


def named(sections: Sequence[Section]) -> str:
    """Return the name of what the page is about; of several models, at most four."""
    judging = [one for one in sections if kind_of(one.document["command"]).judges]
    pairs = [one for one in sections if _part(one.document, "tuned")]
    about = judging or pairs or sections
    names = list(dict.fromkeys(models_named(section.document) for section in about))
    return ", ".join(names if len(names) <= 4 else [*names[:3], "…"])


def verdict(sections: Sequence[Section], troubles: Sequence[Trouble]) -> tuple[str, str]:
    """Return how the page's verdict looks, and its word: that of the worst check."""
    checks = [one.document for one in sections if kind_of(one.document["command"]).judges]
    if checks:
        worst = min(checks, key=lambda document: TONES.index(tone(document)))
        word, gap, _ = str(worst["summary"]["reading"]).partition("  ")
        return tone(worst), word if gap else WORDS[tone(worst)]
    mark = troubles[0].mark if troubles else "note"
    return (mark, WORDS[mark]) if mark in WORDS else ("note", "no errors or warnings")


def headline(sections: Sequence[Section], troubles: Sequence[Trouble]) -> str:
    """Return the heading of the page, and what was found in a sentence."""
    name = text(named(sections)).replace("/", "/<wbr>")
    found = told(troubles)
    checks = [one for one in sections if kind_of(one.document["command"]).judges]
    lines = [f"{found[0].upper()}{found[1:]}."]
    if checks:
        lines = [_rest(one.document, len(checks) > 1) for one in checks] + lines
    else:
        results = counted(len(sections), "result", "results")
        lines[0] = f"{lines[0][:-1]} in {results}."
        lines.append("No policy judged it: spectra check does.")
    rows = " or ".join(dict.fromkeys(noun_of(one.document)[0] for one in sections))
    return (
        f"<h1>{badge(*verdict(sections, troubles))} <span>{name}</span></h1>"
        f'<p class="lead">{text(" ".join(lines))} A {text(rows)} opens on a click.</p>'
        f'<p class="made">{text(_made(sections))}</p>'
    )


def _made(sections: Sequence[Section]) -> str:
    """Say by which version, when and of which weights; what differs is told in the sections."""
    judging = [one for one in sections if kind_of(one.document["command"]).judges]
    pairs = [one for one in sections if _part(one.document, "tuned")]
    document = (pairs or judging or sections)[0].document
    told = [made_of(document, date=True), sampled_alike(document)]
    return " · ".join(piece for piece in told if piece)


def _rest(document: Document, several: bool) -> str:
    reading = str(document["summary"]["reading"])
    rest = reading.partition("  ")[2] or reading
    rest = rest[:1].upper() + rest[1:]
    return f"{models_named(document)}: {rest}" if several else rest


def _subject(sections: Sequence[Section]) -> set[str]:
    """Return where the models lie that were judged; else those that were tuned."""
    judged = [_mains(one.document) for one in sections if kind_of(one.document["command"]).judges]
    tuned = [_part(one.document, "tuned") for one in sections]
    return set().union(*(judged or tuned))


def _mains(document: Document) -> set[str]:
    return _part(document, "tuned") or _part(document, "model")


def _part(document: Mapping[str, Any], part: str) -> set[str]:
    return {model["resolved"] for model in document["models"] if model["part"] == part}
