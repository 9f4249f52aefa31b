"""What `spectra spectrum --trend` tells: a run's spectra, checkpoint by checkpoint."""

from spectra.report.kinds.kind import Kind, Metric

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
)  # fmt: skip
