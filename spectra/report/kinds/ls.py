"""What `spectra ls` tells: what a model holds."""

from spectra.report.kinds.kind import Kind

KIND = Kind(
    "ls",
    "Contents",
    order=(("parameters", True),),
    visible=("parameters", "dtype", "codec"),
)
