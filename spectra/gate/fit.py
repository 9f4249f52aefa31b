"""Whether an adapter fits its base and its settings, from headers alone."""

from spectra.checkpoint import Adapter, LoraFactors
from spectra.checkpoint.adapter.settings import patterns_left
from spectra.matrices.role import kind_of
from spectra.policy.facts import Fit
from spectra.work import Plan
from spectra.work.planning.placing import NO_BASE

OUTPUT = ".out_proj"
"""Of a MultiheadAttention, which PEFT sets by the attention's own name."""


def fit_of(adapter: Adapter, plan: Plan | None) -> Fit:
    """Return what rules look at of an adapter.

    Args:
        adapter: The adapter.
        plan: It and its base; None: no base is given.
    """
    modules = {*adapter.modules, *adapter.rows}
    return Fit(
        ranks={name: one.rank for name, one in adapter.modules.items() if one.rank},
        scales={name: one.scale for name, one in adapter.factors.items()},
        factors={name: _tensors(one) for name, one in adapter.factors.items()},
        changes=len(modules) + len(adapter.saved),
        lost=None if plan is None else _lost(plan, modules),
        contradictions=adapter.contradictions,
        unused=patterns_left(adapter.config, _names(adapter)) if adapter.coat == "PEFT" else (),
    )


def _tensors(factors: LoraFactors) -> tuple[str, ...]:
    """Return the tensors of which none may be zero; a magnitude changes a weight without them."""
    return (
        ()
        if factors.magnitude is not None
        else tuple(part.name for entry in (factors.a, factors.b) for part in entry.parts)
    )


def _names(adapter: Adapter) -> list[str]:
    """Return what PEFT matches patterns against: modules, and their bare parameters."""
    parameters = {
        f"{one.module}.{leaf}" for one in adapter.factors.values() for leaf in one.choices
    }
    outputs = {name.removesuffix(OUTPUT) for name in adapter.modules if name.endswith(OUTPUT)}
    return [*adapter.modules, *sorted(parameters | outputs)]


def _lost(plan: Plan, modules: set[str]) -> list[str]:
    """Return the modules that match no tensor of the base, which it does not tie to another."""
    tied = plan.checkpoint.config.get("tie_word_embeddings") is True
    lost = {item.tensor for item in plan.skipped if item.reason == NO_BASE} & modules
    return sorted(name for name in lost if not (tied and kind_of(f"{name}.weight") == "lm_head"))
