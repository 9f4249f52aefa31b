"""What `spectra diff` tells: what fine-tuning changed, and its intruder dimensions."""

from spectra.report.kinds.kind import Kind, Metric
from spectra.report.shape import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Object,
    older,
    sometimes,
    unpublished,
)  # fmt: skip

SIDE = Object({"matrices": COUNT, "unpaired": COUNT})
MODULES = Object({"modules": COUNT, "unpaired": COUNT})

KIND = Kind(
    "diff",
    "What fine-tuning changed",
    order=(("intruders", True), ("worst_cos", False), ("delta_relative", True)),
    visible=(
        "delta_relative", "delta_rank", "intruders", "worst_cos", "worst_at", "worst_energy",
    ),
    metrics=(
        Metric("intruders", "count"), Metric("worst_cos", "linear", "low"),
        Metric("delta_relative", "linear"), Metric("delta_rank", "count"),
    ),
    drawer="spectra.report.diff_plots:draw_diff",
    options={"intruders": False, "exact": False, "k": 10, "epsilon": 0.5, "side": "left"},
    settings={
        "intruders": FLAG, "epsilon": sometimes(NUMBER), "side": sometimes(TEXT),
        "k": sometimes(COUNT),
    },
    summary={
        "matrices": older(COUNT), "changed": COUNT, "non_finite": older(COUNT),
        "unpaired": older(Object({"base": SIDE, "tuned": SIDE, "adapter": sometimes(MODULES)})),
        "intruders": unpublished(sometimes(COUNT)), "certified": unpublished(sometimes(FLAG)),
    },
)  # fmt: skip
