"""Plan, run, rows."""

from spectra.engine.execute import Progress, Resources, execute
from spectra.engine.plan import Plan, plan_model, plan_pair
from spectra.engine.result import Model, Result

__all__ = ["Model", "Plan", "Progress", "Resources", "Result", "execute", "plan_model", "plan_pair"]
