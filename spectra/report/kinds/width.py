"""What `spectra width` tells: how singular values scale with width, role by role."""

from spectra.report.kinds.kind import Kind, Metric

KIND = Kind(
    "width",
    "Scaling with width",
    order=(("sigma_max", True),),
    visible=("model", "width", "sigma_max"),
    metrics=(Metric("sigma_max", "log"),),
    drawer="spectra.report.width_plots:draw_width",
    series=True,
)
