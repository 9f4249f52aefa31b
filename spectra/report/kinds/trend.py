"""What `spectra spectrum --trend` tells: a run's spectra, checkpoint by checkpoint."""

from spectra.report.kinds.kind import Kind, Metric
from spectra.report.shape import COUNT, NUMBER, TEXT, Items, Object, nullable, older, unpublished

RUN = Object({
    "role": TEXT, "matrices": COUNT,
    **dict.fromkeys(("sigma_max", "stable_rank", "kappa"), Items(nullable(NUMBER))),
})  # fmt: skip
"""How one role's numbers go over the steps of a run."""

KIND = Kind(
    "trend",
    "Spectra over the run",
    order=(("kappa", True),),
    visible=("model", "step", "sigma_max", "stable_rank", "kappa"),
    metrics=(
        Metric("sigma_max", "log"), Metric("stable_rank", "log", "low"), Metric("kappa", "log"),
    ),
    drawer="spectra.report.trend_plots:draw_trend",
    series=True,
    lead=("spectrum", "--trend"),
    summary={
        "steps": Items(unpublished(NUMBER)), "roles": Items(unpublished(RUN)),
        "matrices": older(COUNT),
    },
)  # fmt: skip
