"""Plan, run, rows."""

from spectra.engine.estimate import Estimate, estimate
from spectra.engine.execute import Progress, Resources, execute
from spectra.engine.plan import Plan, plan_model, plan_pair
from spectra.engine.result import Model, Result

__all__ = [
    "Estimate",
    "Model",
    "Plan",
    "Progress",
    "Resources",
    "Result",
    "estimate",
    "execute",
    "plan_model",
    "plan_pair",
]
