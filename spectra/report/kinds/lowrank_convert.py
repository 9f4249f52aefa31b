"""What `spectra lowrank convert` tells: ranks before and after, and what is lost."""

from spectra.report import lowrank
from spectra.report.kind import Kind

KIND = Kind(
    "lowrank_convert",
    "An adapter in another form",
    columns=lowrank.COLUMNS, order=lowrank.ORDER, figures=lowrank.figures,
    after=lowrank.after, writes=True, visible=lowrank.VISIBLE, metrics=lowrank.METRICS,
    worst=lowrank.worst, lead=("lowrank", "convert"), parts=("adapter", "base"),
    options=lowrank.OPTIONS, summary=lowrank.SUMMARY,
)  # fmt: skip
