"""What `spectra spectrum` tells: singular values, matrix by matrix."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, get_args

from spectra.numbers import number, percent
from spectra.report import cells, shades, tokens
from spectra.report.kind import Document, Kind, Listing, Metric, RowDoc, Worst, highest, singular
from spectra.report.sentences import closing, short_name, unresolved_told
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, TEXTS, Object, Words
from spectra.report.table import Column
from spectra.text import printable
from spectra.words import Experts, Preset

COLUMNS = (
    cells.NAME, cells.ROLE, cells.SHAPE, Column("sigma max", cell=cells.of("sigma_max")),
    Column("min", optional=True, cell=cells.of("sigma_min")),
    Column("kappa", cell=cells.kappa), Column("stable", cell=cells.of("stable_rank")),
    Column("alpha", cell=cells.of("alpha")),
    Column("spikes", optional=True, cell=cells.of("spikes")),
)  # fmt: skip
TOKENS = (
    cells.NAME, cells.ROLE, Column("sigma max", cell=cells.of("sigma_max")),
    Column("in tokens", "left", wrapping=True, cell=tokens.cell("component"),
           means="both ends of the leading singular direction of the residual stream"),
)  # fmt: skip
CARD = (
    cells.CODE, Column("κ", cell=cells.kappa),
    Column("σ max", cell=cells.of("sigma_max")),
    Column("stable rank", cell=cells.of("stable_rank")),
    Column("α", cell=cells.of("alpha")),
)  # fmt: skip


LAWS = ("lognormal", "exponential", "truncated")
UNLIKELY = 0.1  # p, below which another law counts as likelier


def _likelier(row: RowDoc) -> str:
    """Name the law that describes the tail best where it is clearly not the power law."""
    found = {
        name: row[f"{name}_ratio"]
        for name in LAWS
        if (row.get(f"{name}_p") or 1.0) < UNLIKELY and (row.get(f"{name}_ratio") or 0.0) < 0.0
    }
    if row.get("alpha") is None:
        return cells.NONE
    return min(found, key=lambda name: found[name]) if found else "none"


SHORT = {
    "sigma_max": "sigma max", "sigma_min": "min", "stable_rank": "stable", "alpha_sigma": "±",
    "effective_rank": "effective", "energy_rank": "energy rank", "numerical_rank": "numerical",
    "resolved_rank": "resolved", "alpha_ks": "KS", "alpha_tail": "tail", "mp_edge": "edge",
    "signal_energy": "signal", "mp_softrank": "soft rank", "random_distance": "distance",
    "sigma_max_random": "random max", "log_abs_det": "log det", "alpha_status": "fit",
    "alpha_xmin": "from", "alpha_error": "error", "alpha_weighted": "weighted",
    "heavy_tail": "heavy", "dct_rank": "columns", "dct_energy": "cosines", "dct_null": "by chance",
    "dct_ratio": "of best",
}  # fmt: skip
"""Titles of columns; others go by their keys."""
GROUPS = {
    "basic": ("sigma_max", "sigma_min", "kappa", "stable_rank", "effective_rank", "entropy"),
    "powerlaw": ("alpha", "alpha_sigma", "alpha_ks", "alpha_tail", "likelier"),
    "mp": ("mp_edge", "spikes", "signal_energy", "mp_softrank"),
    "random": ("traps", "random_distance"),
    "dct": ("dct_energy", "dct_null", "dct_ratio", "dct_rank"),
    "all": ("sigma_max", "kappa", "stable_rank", "alpha", "alpha_sigma", "likelier", "spikes",
            "signal_energy", "traps"),
}  # fmt: skip
"""What of each group a table has."""
SURE = 3  # columns that a narrow table keeps
WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "selected": cells.plain,
    "signal_energy": percent,
    **dict.fromkeys(("dct_energy", "dct_null", "dct_ratio"), percent),
    "heavy_tail": cells.plain,
    "alpha_status": cells.plain,
}


PRESETS = {
    "weightwatcher": "alpha,alpha_ks,alpha_weighted,log_alpha_norm,stable_rank,entropy",
    "spectrum": "snr,selected",
}
"""What a table has where it is told as another tool does."""


def _columns(document: Document) -> Sequence[Column]:
    """Return what was asked for, in the order of its groups."""
    settings = document["settings"]
    unshown = {"sigma_profile"}
    if document["summary"].get("selected") is None:
        unshown.add("selected")
    words = TOKENS[-1:] if document["summary"].get("tokens") else ()
    asked = settings.get("metrics") or PRESETS.get(str(settings.get("preset")))
    if not isinstance(asked, str):
        return TOKENS if words else COLUMNS
    keys = dict.fromkeys(key for word in asked.split(",") for key in GROUPS.get(word, (word,)))
    told = [
        Column("likelier", "left", optional=at >= SURE, cell=_likelier,
               means=f"the law that describes the tail best, where p < {UNLIKELY}")
        if key == "likelier" else
        Column(SHORT.get(key, key), optional=at >= SURE, key=key,
               cell=cells.kappa if key == "kappa" else cells.of(key, WRITTEN.get(key, number)))
        for at, key in enumerate(key for key in keys if key not in unshown)
    ]  # fmt: skip
    return (cells.NAME, cells.ROLE, cells.SHAPE, *told, *words)


def _lines(document: Document) -> Sequence[RowDoc]:
    """Return what files of lines hold: with WeightWatcher's words its columns alone."""
    if document["settings"].get("preset") != "weightwatcher":
        rows: Sequence[RowDoc] = document["rows"]
        return rows
    return [row["weightwatcher"] for row in document["rows"]]


def _card(document: Document, ranked: Sequence[RowDoc]) -> Listing:
    """Return the first of what was asked for."""
    if _columns(document) in (COLUMNS, TOKENS):
        return Listing(CARD, ranked)
    return Listing((cells.CODE, *_columns(document)[3:][:5]), ranked)


def _facts(document: Document, full: bool) -> list[str]:
    told = unresolved_told(document["rows"]) if _shows_kappa(document) else []
    return [*tokens.facts(document["summary"]), *told, *closing(document, full)]


def _shows_kappa(document: Document) -> bool:
    return any(column.title == "kappa" for column in _columns(document))


def _figures(document: Document) -> list[tuple[str, str]]:
    rows = document["rows"]
    return [
        ("parameters", number(document["summary"]["parameters"])),
        *cells.conditioned(rows),
        *cells.highest(rows, "sigma_max", "highest σ"),
    ]


def _worst(document: Document) -> Iterator[Worst]:
    """Yield singular matrices, and the highest condition numbers against their role's."""
    yield from singular(document)
    known = [row for row in document["rows"] if row.get("kappa") is not None]
    for row in highest(known, "kappa"):
        alike = [other["kappa"] for other in known if other["role"] == row["role"]]
        text = f"κ {number(row['kappa'])}"
        middle = median(alike)
        if len(alike) > 2 and middle > 0:
            text += f", {number(row['kappa'] / middle)} × the median of {printable(row['role'])}"
        if cells.is_unresolved(row):
            text += ", and measures the rounding of its dtype"
        yield Worst("note", row["matrix"], text, about="kappa")


def _together(document: Document) -> str:
    """Say of an adapter's spectra that they are not its own."""
    names = {one["part"]: short_name(one) for one in document["models"]}
    if not {"base", "tuned"} <= names.keys():
        return ""
    return printable(f"of {names['base']} with {names['tuned']} added")


def _words(document: Document) -> list[tuple[str, ...]]:
    """Return the option that names an adapter's base."""
    return [("--base", str(one["spec"])) for one in document["models"] if one["part"] == "base"]


KIND = Kind(
    "spectrum",
    "Singular spectra",
    order=(("kappa", True),),
    table=lambda document: Listing(_columns(document), document["rows"]),
    card=_card,
    figures=_figures, facts=_facts,
    onward=lambda _: [[("--plot", "spectrum.png")]],
    visible=(
        "sigma_max", "sigma_min", "kappa", "stable_rank", "alpha", "alpha_sigma", "spikes",
        "signal_energy", "traps", "snr", "dct_energy", "dct_ratio",
    ),
    metrics=(
        Metric("kappa", "log", "high", shades.conditioning, shades.OF_KAPPA),
        Metric("sigma_max", "log"), Metric("stable_rank", "log"), Metric("alpha", "linear"),
        Metric("spikes", "count"), Metric("signal_energy", "linear"),
        Metric("entropy", "linear"), Metric("snr", "log"), Metric("traps", "count"),
    ),
    under=_together, advice=lambda document: [*filter(None, [_together(document)])],
    worst=_worst, parts=("model", "tuned"), words=_words,
    drawer="spectra.report.plots.spectrum:draw_spectrum",
    options={"energy": 0.99, "metrics": None, "seed": 0, "preset": None, "select": None,
             "dct_rank": None, "factors": False, "experts": "single", "tokens": False},
    settings={
        "metrics": TEXT.sometimes, "seed": COUNT.sometimes,
        "dct_rank": COUNT.sometimes,
        "preset": Words(get_args(Preset)).sometimes, "select": TEXT.sometimes,
        "factors": FLAG.sometimes, "experts": Words(get_args(Experts)).sometimes,
    },
    lines=_lines,
    summary={
        "weightwatcher": Object(rest=NUMBER).sometimes, "selected": TEXTS.sometimes,
        "matrices": COUNT.older, "parameters": COUNT, "non_finite": COUNT.older,
        "tokens": tokens.ABOUT.sometimes},
)  # fmt: skip
