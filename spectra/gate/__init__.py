"""Whether a release may ship: a model and its references are read, and rules judge them."""

from spectra.gate.check import Check
from spectra.gate.planning import plan_check
from spectra.gate.references import References

__all__ = ["Check", "References", "plan_check"]
