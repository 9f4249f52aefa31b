"""What `spectra spectrum` tells: singular values, matrix by matrix."""

from spectra.report.kinds.kind import Kind, Metric
from spectra.report.shape import COUNT, older

KIND = Kind(
    "spectrum",
    "Singular spectra",
    order=(("kappa", True),),
    visible=("sigma_max", "sigma_min", "kappa", "stable_rank", "alpha", "spikes"),
    metrics=(
        Metric("kappa", "log"), Metric("sigma_max", "log"), Metric("stable_rank", "log", "low"),
        Metric("alpha", "linear"), Metric("spikes", "count"),
    ),
    drawer="spectra.report.spectrum_plots:draw_spectrum",
    options={"energy": 0.99},
    summary={"matrices": older(COUNT), "parameters": COUNT, "non_finite": older(COUNT)},
)  # fmt: skip
