"""What `spectra ls` tells: what a model holds."""

from spectra.report.kinds.kind import Kind
from spectra.report.shape import COUNT, older

KIND = Kind(
    "ls",
    "Contents",
    order=(("parameters", True),),
    visible=("parameters", "dtype", "codec"),
    summary={"matrices": older(COUNT), "parameters": COUNT, "bytes": older(COUNT)},
)
