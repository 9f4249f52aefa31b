"""One result on the page: its sentence, pictures, tables, settings and command."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from spectra.numbers import number
from spectra.policy import Policy
from spectra.report.command_line import command_line
from spectra.report.command_line import written as command_of
from spectra.report.findings.found import TOO_LITTLE
from spectra.report.html.encode import Names
from spectra.report.html.grids import heatmaps
from spectra.report.html.markup import badge, command, pairs, plain_table, setting, text
from spectra.report.html.tables import MOST_ROWS, Column, Table, matrices, table_of
from spectra.report.keys import KEYS
from spectra.report.kind import Document, Sheet, kind_of
from spectra.report.sentences import models_named, noted
from spectra.text import printable

MOST_PLAIN = 50  # rows of a table where scripts do not run
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Section:
    """One result, ready to be written."""

    ident: str
    document: Document
    tables: Sequence[Table]  # the last is of matrices
    charts: Sequence[Mapping[str, Any]]
    saved: str  # the file's name, or what it would be written to
    apart: bool = False  # another result of the page has the same topic and models

    @property
    def topic(self) -> str:
        """What it is about."""
        return kind_of(self.document["command"]).title

    @property
    def title(self) -> str:
        """Its heading."""
        file = f" ({printable(PurePath(self.saved).name)})" if self.apart else ""
        return f"{self.topic}: {models_named(self.document)}{file}"

    @property
    def _of(self) -> str | None:
        """Where the model lies whose spectra these are; of an adapter, those with its base."""
        models = {one["part"]: str(one["resolved"]) for one in self.document["models"]}
        tuned = models.get("tuned") if self.document["command"] == "spectrum" else None
        return models.get("model", tuned)

    @property
    def _spectra(self) -> dict[str, str]:
        """What measures the spectra of either side of a pair."""
        specs = {one["part"]: str(one["spec"]) for one in self.document["models"]}
        if self.document["command"] != "diff" or not {"base", "tuned"} <= specs.keys():
            return {}
        adapter = "adapter" in (self.document["summary"].get("unpaired") or {})
        more = ["--base", specs["base"]] if adapter else []
        told = {"base": [specs["base"]], "tuned": [specs["tuned"], *more]}
        return {
            part: command_of(["spectrum", *words, "-o", f"{part}-spectrum.json"])
            for part, words in told.items()
        }

    def plain(self, names: Names) -> dict[str, Any]:
        """Return what scripts draw, as JSON data."""
        return {
            "id": self.ident,
            "title": self.title,
            "command": self.document["command"],
            "model": models_named(self.document),
            "file": PurePath(self.saved).stem,
            "of": self._of,
            "spectra": self._spectra,
            "parts": {one["resolved"]: one["part"] for one in self.document["models"]},
            "tables": [table.plain(names) for table in self.tables],
            "charts": list(self.charts),
        }


def section_of(
    document: Document,
    ident: str,
    saved: str,
    most: int = MOST_ROWS,
    policy: Policy | None = None,
) -> Section:
    """Arrange one checked document.

    Args:
        document: A result.
        ident: Its place on the page.
        saved: Name of the file it is read from.
        most: Rows of matrices that there is room for.
        policy: By which heatmaps are coloured; None: by the rules' defaults.
    """
    kind, main = kind_of(document["command"]), matrices(document, ident, most)
    heat = heatmaps(document, main.ident, policy)
    charts = [*([heat] if heat else []), *kind.charts(document, main.ident)]
    if kind.series:  # lines tell more than cells there
        charts.reverse()
    sheets = [table_of(sheet, ident) for sheet in (*kind.sheets(document), _skips(document))]
    return Section(ident, document, [*sheets, main], charts, saved)


def answer(document: Document) -> str:
    """Return the sentence on top; of a check its first word as a mark."""
    reading = str(document["summary"]["reading"])
    word, gap, rest = reading.partition("  ")
    if not kind_of(document["command"]).judges or not gap:
        return text(reading)
    return f"{badge(tone(document), word)} {text(rest)}"


def tone(document: Document) -> str:
    """Return how a check's verdict looks: what was judged in part alone is neither."""
    summary = document["summary"]
    incomplete = summary.get("exit_code") == TOO_LITTLE
    return "passed" if summary["passed"] else "warning" if incomplete else "error"


def written(section: Section) -> str:
    """Return a section as HTML; scripts fill its pictures and tables."""
    document = section.document
    ident = section.ident
    pictures = "".join(
        f'<figure class="chart" data-chart="{place}"></figure>'
        for place in range(len(section.charts))
    )
    tables = "".join(
        f'<div class="table" data-table="{place}">{_plain(table)}</div>'
        for place, table in enumerate(section.tables)
        if table.columns and table.columns[0].values and not _is_folded(table)
    )
    again = command_line(document, ["-o", section.saved])
    advice = "".join(
        f'<p class="advice">{text(line)}</p>'
        for line in [*kind_of(document["command"]).advice(document), *noted(document)]
    )
    return (
        f'<section id="{ident}" aria-labelledby="{ident}-title" class="result">'
        f'<h2 id="{ident}-title">{text(section.title)}</h2>'
        f'<p class="reading">{answer(document)}</p>'
        f"{advice}{command(again, f'{ident}-command')}"
        f'<div class="charts">{pictures}</div>{tables}{_details(section)}</section>'
    )


def _plain(table: Table) -> str:
    """Return the first rows as they stand, for readers without scripts."""
    shown = [column for column in table.columns if column.shown]
    count = len(shown[0].values)
    rows = [
        [_cell(column, column.values[place]) for column in shown]
        for place in range(min(count, MOST_PLAIN))
    ]
    caption = table.caption + (f", the first {MOST_PLAIN} of {count:,}" * (count > MOST_PLAIN))
    return plain_table(caption, [column.about.title for column in shown], rows)


def _cell(column: Column, value: object) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return column.about.write(value)
    return number(value) if isinstance(value, int) else text(value)


def _details(section: Section) -> str:
    """Return settings, provenance, skips and meanings, folded."""
    document = section.document
    settings = [(str(key), setting(value)) for key, value in document["settings"].items()]
    provenance = [
        (model["part"], f"<code>{text(model['spec'])}</code> ({text(model['resolved'])})"
         + _codecs(model) + _digest(model))
        for model in document["models"]
    ]  # fmt: skip
    provenance += [
        ("spectra", text(document["spectra"])),
        *([("made", text(document["date"]))] if document.get("date") else ()),
        ("schema", text(document["schema"])),
        ("file", f"<code>{text(section.saved)}</code>"),
    ]
    shown = [table for table in section.tables if not _is_folded(table)]
    keys = [column.key for table in shown for column in table.columns]
    titles = {key: KEYS[key] for key in keys if key in KEYS}
    meanings = [(about.title, text(about.meaning)) for about in titles.values() if about.meaning]
    blocks = [
        ("Settings and provenance", pairs([*provenance, *settings])),
        ("What the columns mean", pairs(meanings)),
    ]
    if document["skipped"]:
        blocks.append((f"Skipped tensors ({len(document['skipped']):,})", _skipped(section)))
    return "".join(
        f"<details><summary>{text(name)}</summary>{inner}</details>" for name, inner in blocks
    )


def _codecs(model: Mapping[str, Any]) -> str:
    found = ", ".join(f"{text(count)} by {text(name)}" for name, count in model["codecs"].items())
    return f"; decoded: {found}" if found else ""


def _digest(model: Mapping[str, Any]) -> str:
    return f"; weights <code>{text(model['digest'])}</code>" if model.get("digest") else ""


def _skips(document: Document) -> Sheet:
    """Return what was not analysed as a table, of several models with whose it is."""
    return Sheet(
        SKIPPED, "Skipped tensors", document["skipped"], ("tensor", "model", "reason"), ("", False),
        ("reason",),
    )  # fmt: skip


def _is_folded(table: Table) -> bool:
    """Say whether a table stands among what is folded."""
    return table.ident.endswith(f"-{SKIPPED}")


def _skipped(section: Section) -> str:
    counts = Counter(item["reason"] for item in section.document["skipped"])
    told = "; ".join(f"{count:,} {text(reason)}" for reason, count in counts.most_common(20))
    place, table = next(one for one in enumerate(section.tables) if _is_folded(one[1]))
    return f'<p>{told}.</p><div class="table" data-table="{place}">{_plain(table)}</div>'
