"""Whether an adapter fits its base and its settings, from headers alone."""

from spectra.checkpoint import Adapter, LoraFactors
from spectra.checkpoint.adapter.biases import Shift, moved_biases
from spectra.checkpoint.adapter.settings import patterns_left, targets_of
from spectra.checkpoint.adapter.updates.held import WEIGHT, contradiction, form_of, told_of
from spectra.checkpoint.adapter.updates.update import Made
from spectra.matrices.role import kind_of
from spectra.policy.facts import Fit
from spectra.text import quote
from spectra.work import Plan
from spectra.work.planning.changes import MISSHAPEN
from spectra.work.planning.placing import NO_BASE
from spectra.work.task import Remade, Updated

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
        modules=len(adapter.modules),
        ranks={name: one.rank for name, one in adapter.factors.items()},
        scales={name: one.scale for name, one in adapter.factors.items()},
        factors={name: _tensors(one) for name, one in adapter.factors.items()},
        changes=len(modules) + len(adapter.saved),
        saved=len(adapter.saved),
        moving=[
            way.entry.name
            for way in moved_biases(adapter).values()
            if isinstance(way, Shift) and way.scale
        ],
        others=len(adapter.updates),
        method=adapter.method,
        lost=None if plan is None else _lost(plan, modules),
        misshapen=() if plan is None else _misshapen(plan),
        unnamed=_unnamed(adapter) if adapter.coat == "PEFT" else (),
        contradictions={**adapter.contradictions, **_contradictions(adapter, plan)},
        unused=_unused(adapter) if adapter.coat == "PEFT" else (),
    )


def _contradictions(adapter: Adapter, plan: Plan | None) -> dict[str, str]:
    """Return what settings say otherwise than tensors that only the base tells the size of."""
    found: dict[str, str] = {}
    kind = str(adapter.config.get("peft_type"))
    told = told_of(adapter.config, kind, [*adapter.updates])
    for task in plan.tasks if plan else ():
        change = task.inputs[0].change
        if isinstance(change, Remade):
            module, base, sizes = (
                change.update.module,
                dict(change.update.told),
                change.update.sizes,
            )
        elif isinstance(change, Updated) and isinstance(made := change.factors.a.codec, Made):
            module, base = change.factors.module, dict(made.told)
            sizes = {name: entry.shape for name, entry in made.stored}
        else:
            continue
        sizes[WEIGHT] = base["rows"], base["cols"]
        text, _ = contradiction(adapter.config, kind, sizes, told.get(module, {}))
        found |= {module: text} if text else {}
    return found


def _tensors(factors: LoraFactors) -> tuple[str, ...]:
    """Return the tensors of which none may be zero; a magnitude changes a weight without them."""
    return (
        ()
        if factors.magnitude is not None
        else tuple(part.name for entry in (factors.a, factors.b) for part in entry.parts)
    )


def _unused(adapter: Adapter) -> list[tuple[str, str]]:
    """Return patterns that no module fits, each with its table."""
    form = form_of(str(adapter.config.get("peft_type")))
    return patterns_left(adapter.config, _names(adapter), form)


def _names(adapter: Adapter) -> list[str]:
    """Return what PEFT matches patterns against: modules, and their bare parameters."""
    parameters = {
        f"{one.module}.{leaf}" for one in adapter.factors.values() for leaf in one.choices
    }
    outputs = {name.removesuffix(OUTPUT) for name in adapter.modules if name.endswith(OUTPUT)}
    return [*adapter.modules, *sorted(parameters | outputs)]


def _unnamed(adapter: Adapter) -> list[str]:
    """Return modules that `target_modules` leaves out, so that PEFT drops what is held for them."""
    ends = tuple(f".{one}" for one in targets_of(adapter.config))
    names = {name: f".{name}" for name in adapter.modules if not _parameters(adapter, name)}
    return [
        name
        for name, path in names.items()
        if ends and not path.endswith(ends) and not path.removesuffix(OUTPUT).endswith(ends)
    ]


def _parameters(adapter: Adapter, module: str) -> bool:
    """Say whether factors are of bare parameters, which `target_parameters` names."""
    factors = adapter.factors.get(module)
    return factors is not None and factors.kind == "parameter"


def _lost(plan: Plan, modules: set[str]) -> list[str]:
    """Return the modules that match no tensor of the base, which it does not tie to another."""
    tied = plan.checkpoint.config.get("tie_word_embeddings") is True
    lost = {item.tensor for item in plan.skipped if item.reason == NO_BASE} & modules
    return sorted(name for name in lost if not (tied and kind_of(f"{name}.weight") == "lm_head"))


def _misshapen(plan: Plan) -> list[str]:
    """Return the matrices that an update does not fit, each with both shapes."""
    start = f"{MISSHAPEN}: "
    return [
        f"{quote(item.tensor)} is {item.reason.removeprefix(start)}"
        for item in plan.skipped
        if item.reason.startswith(start)
    ]
