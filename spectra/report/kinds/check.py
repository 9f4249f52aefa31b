"""What `spectra check` tells: the verdict, and the findings worst first."""

from spectra.report.kinds.kind import Kind, Metric

KIND = Kind(
    "check",
    "Release check",
    order=(("intruders", True), ("kappa", True)),
    visible=(
        "sigma_max", "kappa", "stable_rank", "alpha", "delta_relative", "intruders", "worst_cos",
    ),
    metrics=(
        Metric("findings", "count"), Metric("kappa", "log"), Metric("intruders", "count"),
        Metric("sigma_max", "log"), Metric("stable_rank", "log", "low"), Metric("alpha", "linear"),
        Metric("delta_relative", "linear"),
    ),
    judges=True,
    parts=("model",),
    options={
        "base": None, "adapter": None, "baseline": None, "fail_on": "error", "min_coverage": 0.0,
    },
)  # fmt: skip
