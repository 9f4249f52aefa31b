"""What `spectra lowrank resize` tells: ranks before and after, and what is lost."""

from spectra.report import lowrank
from spectra.report.kind import Kind

KIND = Kind(
    "lowrank_resize",
    "A smaller adapter",
    columns=lowrank.COLUMNS, order=lowrank.ORDER, figures=lowrank.figures,
    after=lowrank.after, writes=True, visible=lowrank.VISIBLE, metrics=lowrank.METRICS,
    worst=lowrank.worst, lead=("lowrank", "resize"), parts=("adapter",), options=lowrank.OPTIONS,
    summary=lowrank.SUMMARY,
)  # fmt: skip
