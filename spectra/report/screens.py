"""What each command shows: the answer first, then the rows that carry it."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectra.analyzers import Row
from spectra.checkpoint import Skipped
from spectra.report.findings import check_screen
from spectra.report.kappa_screen import kappa_table, options_again
from spectra.report.series_screens import trend_table, width_facts, width_table
from spectra.report.table import Column, Line, Screen
from spectra.text import printable
from spectra.work import Result

LIMIT = 20  # rows shown without -v on a terminal

NAME = Column("matrix", "left", flexible=True)
ROLE = Column("role", "left", optional=True)
SHAPE = Column("shape", optional=True)


def screen_of(result: Result, *, full: bool = False, hints: bool = False) -> Screen:
    """Lay a result out for reading.

    Args:
        result: Any analysis.
        full: Show every row, as a pipe or `-v` wants.
        hints: Say how long it took and what to do next; documents leave out both, so that
            they are the same from run to run.
    """
    builders: Mapping[str, Callable[[Result, bool], Screen]] = {
        "ls": _ls,
        "spectrum": _spectrum,
        "diff": _intruders if result.settings.get("intruders") else _diff,
        "kappa": _kappa,
        "width": _width,
        "trend": _trend,
        "check": _check,
    }
    screen = builders[result.command](result, full)
    if full or result.command == "ls":
        screen = replace(screen, facts=[*screen.facts, *_unread(result)])
    if not hints or result.command == "ls":
        return replace(screen, hints=screen.hints if hints else ())
    return replace(screen, hints=(f"{result.seconds:.1f} s", *screen.hints))


def _unread(result: Result) -> list[str]:
    """Name the files of weights that were not opened; of several models also whose they are."""
    several = len(result.models) > 1
    found = []
    for one in result.summary.get("unread", ()):
        whose = f" ({printable(one['model'])})" if several else ""
        found.append(f"not read{whose}: {printable(one['file'])}: {printable(one['reason'])}")
    return found


def _check(result: Result, full: bool) -> Screen:
    """Findings, worst first."""
    return check_screen(result.document(), full=full, hints=True)


def _ls(result: Result, full: bool) -> Screen:
    """Every matrix, and what is none."""
    columns = [NAME, ROLE, SHAPE, Column("dtype", "left")]
    lines = [
        Line([printable(row.matrix), row.view.role.kind, _shape(row), _stored(row)])
        for row in result.rows
    ]
    kinds = Counter(item.reason for item in result.skipped)
    if full:
        facts = [f"skipped: {printable(s.tensor)}: {printable(s.reason)}" for s in result.skipped]
    else:
        facts = [f"skipped: {count:,} {printable(reason)}" for reason, count in kinds.most_common()]
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        facts=facts,
        hints=["-v names every skipped tensor."] if result.skipped and not full else [],
    )


def _spectrum(result: Result, full: bool) -> Screen:
    """Matrices in checkpoint order."""
    columns = [
        NAME, ROLE, SHAPE, Column("sigma max"), Column("min", optional=True), Column("kappa"),
        Column("stable"), Column("alpha"), Column("spikes", optional=True),
    ]  # fmt: skip
    shown = list(result.rows) if full else list(result.rows)[:LIMIT]
    lines = [
        _line(
            row, [_shape(row), _number(row, "sigma_max"), _number(row, "sigma_min"),
                  _kappa_cell(row), _number(row, "stable_rank"), _number(row, "alpha", 3),
                  _count(row, "spikes")],
        )
        for row in shown
    ]  # fmt: skip
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        more=_more(len(result.rows) - len(shown)),
        facts=_facts(result),
        hints=[f"Next: {_command(result)} --plot spectrum.png"],
    )


def _diff(result: Result, full: bool) -> Screen:
    """Largest relative change first."""
    ranked = sorted(result.rows, key=lambda row: -(row.number("delta_relative") or 0.0))
    changed = [row for row in ranked if row.number("delta_norm") != 0.0]
    shown = changed if full else changed[:LIMIT]
    columns = [
        NAME, ROLE, SHAPE, Column("delta"), Column("rank"), Column("stable", optional=True),
        Column("sigma max", optional=True),
    ]  # fmt: skip
    lines = [
        _line(
            row, [_shape(row), _percent(row, "delta_relative"), _count(row, "delta_rank"),
                  _number(row, "delta_stable_rank"), _number(row, "delta_sigma_max")],
        )
        for row in shown
    ]  # fmt: skip
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        more=_more(len(changed) - len(shown)),
        facts=_facts(result, _unchanged(len(ranked) - len(changed))),
        hints=[f"Next: {_command(result)} --intruders"],
    )


def _intruders(result: Result, full: bool) -> Screen:
    """Most intruders first, then the lowest cosine."""
    columns = [
        NAME, ROLE, Column("delta", optional=True), Column("rank", optional=True),
        Column("intruders"), Column("|cos|"), Column("at"), Column("energy", optional=True),
        Column("proof", "left", optional=True),
    ]  # fmt: skip
    changed = [row for row in result.rows if row.number("delta_norm") != 0.0]
    ranked = sorted(
        changed, key=lambda row: (-(row.number("intruders") or 0), _worst(row).get("max_cos", 2.0))
    )
    holders = [row for row in ranked if row.number("intruders") or row.status != "ok"]
    shown = ranked if full else (holders[:LIMIT] or ranked[:3])
    lines = []
    for row in shown:
        worst = _worst(row)
        cells = [
            _percent(row, "delta_relative"),
            _count(row, "delta_rank"),
            _count(row, "intruders"),
            f"{worst['max_cos']:.3f}" if worst else "",
            str(worst["index"]) if worst else "",
            f"{100 * worst['energy']:.1f} %" if worst else "",
            worst.get("decided_by", ""),
        ]
        lines.append(_line(row, cells, bad=bool(row.number("intruders"))))
    hidden = len(ranked) - len(shown)
    none_left = all(not row.number("intruders") for row in ranked[len(shown) :])
    verdicts = [*_verdicts(result), *_unchanged(len(result.rows) - len(changed))]
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        more=_more(hidden, ", none with intruders" if none_left else ""),
        facts=_facts(result, verdicts),
        hints=[f"Next: {_command(result)} --intruders --plot intruders.png"],
    )


def _kappa(result: Result, full: bool) -> Screen:
    """Lowest first, a rule at the cut or a mark at what each role selects."""
    table, hidden = kappa_table(result, full=full)
    onward = "" if not result.summary["selected"] else " --export peft -o lora.json"
    return replace(
        table,
        reading=_reading(result),
        more=_more(hidden),
        facts=[*table.facts, *_facts(result)],
        hints=[f"Next: {_command(result)} {options_again(result)}{onward}"],
    )


def _width(result: Result, full: bool) -> Screen:  # noqa: ARG001 - a role takes one line
    """Slopes by role, and what matching takes."""
    columns, lines = width_table(result)
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        facts=[*width_facts(result), *_facts(result)],
        hints=[f"Next: {_command(result)} --plot width.png"],
    )


def _trend(result: Result, full: bool) -> Screen:  # noqa: ARG001 - a role takes one line
    """The first and the last checkpoint, role by role."""
    columns, lines = trend_table(result)
    return Screen(
        reading=_reading(result),
        columns=columns,
        lines=lines,
        facts=_facts(result),
        hints=[f"Next: {_command(result)} --trend --plot trend.png -o trend.csv"],
    )


def _line(row: Row, cells: Sequence[str], *, bad: bool = False, good: bool = False) -> Line:
    """Put a row's name and role before its numbers, or why it has none."""
    if row.status == "non-finite":
        # The reason stands under the table: a name and a sentence do not share 100 columns.
        return Line([printable(row.matrix), row.view.role.kind, *("—" for _ in cells)], "bad")
    return Line(
        [printable(row.matrix), row.view.role.kind, *cells],
        "bad" if bad else "good" if good else "",
    )


def _facts(result: Result, first: Sequence[str] = ()) -> list[str]:
    """Return the closing lines: verdicts, skips, and rows without numbers."""
    pieces = list(first)
    skips = skip_counts(result.skipped)
    if skips:
        pieces.append(f"skipped: {skips}")
    facts = ["   ".join(pieces)] if pieces else []
    facts += _decoded(result)
    facts += [
        f"no numbers: {printable(row.matrix)}: {printable(row.error)}"
        for row in result.rows
        if row.error
    ]
    return facts


def _decoded(result: Result) -> list[str]:
    """Say by which schemes quantised values were decoded."""
    lines = []
    for model in result.models:
        schemes = ", ".join(f"{n:,} by {printable(name)}" for name, n in model.codecs.items())
        if schemes:
            which = "" if model.part == "model" else f" ({model.part})"
            lines.append(f"decoded{which}: {schemes}")
    return lines


def _unchanged(count: int) -> list[str]:
    """Say how many matrices are what they were."""
    return [f"{count:,} unchanged"] if count else []


def skip_counts(skipped: Sequence[Skipped]) -> str:
    """Write how many tensors were skipped for which reason."""
    counts = Counter(item.reason for item in skipped)
    return ", ".join(f"{count:,} {printable(reason)}" for reason, count in counts.most_common())


def _verdicts(result: Result) -> list[str]:
    """Say how many verdicts there are and how each was decided."""
    kinds = Counter(detail["decided_by"] for row in result.rows for detail in _details(row))
    total = sum(kinds.values())
    if not total:
        return []
    how = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    proven = "All" if result.summary.get("certified") else "Not all"
    return [f"{proven} {total:,} verdicts proven ({how})."]


def _details(row: Row) -> list[Mapping[str, Any]]:
    """Return the verdicts of one row."""
    found = row.values.get("intruder_detail")
    return list(found) if isinstance(found, list | tuple) else []


def _worst(row: Row) -> Mapping[str, Any]:
    """Return the verdict with the lowest cosine; empty where there is none."""
    return min(_details(row), key=lambda detail: detail["max_cos"], default={})


def _reading(result: Result) -> str:
    """Return the sentences on top."""
    return printable(str(result.summary["reading"]))


def _command(result: Result) -> str:
    """Return the command that gave this result, for the next step."""
    specs = [printable(shlex.quote(model.spec)) for model in result.models]
    proxies = [member["proxy"] for member in result.settings.get("members", [])]
    if any(proxies):
        specs[-1:] = ["--against", specs[-1]]
    command = "spectrum" if result.command == "trend" else result.command
    return " ".join(["spectra", command, *specs])


def _more(hidden: int, what: str = "") -> str:
    """Say what the screen leaves out."""
    return f"... {hidden:,} more{what} (-v shows all)" if hidden > 0 else ""


def _shape(row: Row) -> str:
    """Write rows x cols."""
    return f"{row.view.rows} x {row.view.cols}"


def _stored(row: Row) -> str:
    """Write the stored dtype, and the codec where the dtype does not tell it."""
    entry = row.view.entry
    if entry.codec is None or entry.codec.name == f"gguf-{entry.dtype}".lower():
        return printable(entry.dtype)
    return printable(f"{entry.dtype}, {entry.codec.name}")


def _number(row: Row, key: str, digits: int = 4) -> str:
    """Write a number in few digits, nothing where there is none."""
    value = row.number(key)
    return "—" if value is None else f"{value:.{digits}g}"


def _count(row: Row, key: str) -> str:
    """Write a whole number."""
    value = row.number(key)
    return "—" if value is None else f"{int(value):,}"


def _percent(row: Row, key: str) -> str:
    """Write a share."""
    value = row.number(key)
    return "—" if value is None else f"{100 * value:.1f} %"


def _kappa_cell(row: Row) -> str:
    """Write kappa, or that the matrix has none."""
    return "singular" if row.status == "singular" else _number(row, "kappa")
