"""What `spectra width` tells: how singular values scale with width, role by role."""

from spectra.report.kinds.kind import Kind, Metric
from spectra.report.shape import (
    FLAG,
    NUMBER,
    TEXT,
    Items,
    Object,
    nullable,
    older,
    sometimes,
    unpublished,
)  # fmt: skip

SLOPE = Object({
    "role": TEXT, "counted": FLAG, "sigma": Object(rest=nullable(NUMBER)),
    **dict.fromkeys(("slope", "low", "high", "ratio"), nullable(NUMBER)), "ok": nullable(FLAG),
    **dict.fromkeys(("expected", "normalised_slope"), sometimes(NUMBER)),
    "reason": sometimes(TEXT),
})  # fmt: skip
"""How one role's largest singular values go with the width."""

MEMBER = Object({
    "model": TEXT, "width": NUMBER, "eta": nullable(NUMBER), "weight_decay": nullable(NUMBER),
    "proxy": FLAG,
})  # fmt: skip

KIND = Kind(
    "width",
    "Scaling with width",
    order=(("sigma_max", True),),
    visible=("model", "width", "sigma_max"),
    metrics=(Metric("sigma_max", "log"),),
    drawer="spectra.report.width_plots:draw_width",
    series=True,
    settings={"members": Items(MEMBER)},
    summary={
        "roles": Items(unpublished(SLOPE)), "matching": older(Items()),
        "advice": Items(unpublished(TEXT)), "overall": unpublished(sometimes(SLOPE)),
    },
)  # fmt: skip
