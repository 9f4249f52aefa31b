"""What `spectra lowrank extract` tells: ranks, and what is lost of each update."""

from spectra.report import lowrank
from spectra.report.kind import Kind

OPTIONS = ("rank", "energy", "budget", "delta_rank", "dtype", "to", "part", "output", "force")

KIND = Kind(
    "lowrank_extract",
    "A fine-tune as an adapter",
    columns=lowrank.COLUMNS[1:], order=lowrank.ORDER, figures=lowrank.figures,
    idle=lambda row: not row.get("rank_kept") and row.get("loss") == 0.0,
    after=lowrank.after, writes=True, visible=lowrank.VISIBLE[1:], metrics=lowrank.METRICS,
    worst=lowrank.worst, lead=("lowrank", "extract"),
    options={name: lowrank.OPTIONS[name] for name in OPTIONS},
    summary={name: shape for name, shape in lowrank.SUMMARY.items() if name != "rank_before"},
)  # fmt: skip
