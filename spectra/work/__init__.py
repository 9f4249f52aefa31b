"""Tasks: planned without torch, measured by an executor; rows."""

from spectra.work.planning.plan import Plan, plan_model, plan_pair
from spectra.work.result import Model, Result

__all__ = ["Model", "Plan", "Result", "plan_model", "plan_pair"]
