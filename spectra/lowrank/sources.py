"""An adapter that is read to be written again: what is cut, and what is carried over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spectra.checkpoint import Adapter, Checkpoint, LoraFactors, Skipped, TensorEntry
from spectra.checkpoint.adapter.factors import WRAPPERS
from spectra.checkpoint.adapter.views import scaled
from spectra.errors import AdapterError, UsageError
from spectra.matrices import Place, View
from spectra.matrices.part import Part
from spectra.matrices.role import Role, roles_of
from spectra.text import quote, shown
from spectra.work.task import Input

READ = ("PEFT", "PEFT without adapter_config.json")
"""Whose names of modules are those of the base, as PEFT wants them."""


WHOLE = "a whole tensor"


@dataclass(frozen=True, slots=True)
class Source:
    """One adapter, its tensors told apart."""

    adapter: Adapter
    factors: Mapping[str, LoraFactors]  # by module
    carried: Mapping[str, TensorEntry] = field(default_factory=dict)  # all others, as stored
    kept: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Rank and alpha of stacks that are carried over, by the names of their parameters."""
    skipped: tuple[Skipped, ...] = ()  # what is carried over, and as what

    def lengths(self, module: str) -> bool:
        """Say whether DoRA gives each output of a module a length."""
        return self.factors[module].magnitude is not None


def source_of(opened: Checkpoint | Adapter) -> Source:
    """Return an adapter as it can be written again.

    Raises:
        UsageError: It is a model.
        AdapterError: Its modules have other names than PEFT gives them.
    """
    if isinstance(opened, Checkpoint):
        raise UsageError(
            f"{shown(opened.spec)} is a model, expected a LoRA adapter: a folder with "
            "adapter_config.json, or its file."
        )
    spec = shown(opened.spec)
    refuse_other_names(opened)
    factors = {name: own for name, own in opened.factors.items() if own.kind != "parameter"}
    for own in factors.values():
        wrapped = WRAPPERS.search(own.a.name)
        if wrapped is not None:
            raise AdapterError(
                f"{spec}: {quote(own.a.name)} lies inside {quote(wrapped[0][1:])}, which is not "
                "written. Merge it into its base and give the merged model."
            )
    biased = next((name for name in opened.weights.entries if name.endswith("lora_B.bias")), None)
    if biased is not None:
        raise AdapterError(
            f"{spec} holds {quote(biased)}, a bias that is scaled with its factors (lora_bias), "
            "which is not written. Merge it into its base and give the merged model."
        )
    if not factors:
        raise AdapterError(
            f"{spec} holds no factors of linear layers or embeddings that could be cut."
        )
    cut = {entry.name for own in factors.values() for entry in (own.a, own.b)}
    carried = {name: entry for name, entry in opened.weights.entries.items() if name not in cut}
    if opened.coat != READ[0]:  # scales of each module, which are in the factors now
        carried = {name: one for name, one in carried.items() if not name.endswith(".alpha")}
    kept = {
        f"{own.module}.{leaf}": (rank, scale * rank)
        for own in opened.factors.values()
        for leaf, (rank, scale) in own.choices.items()
    }
    return Source(opened, factors, carried, kept, _told(opened, carried))


def refuse_other_names(opened: Adapter) -> None:
    """Refuse an adapter whose modules have other names than PEFT gives them.

    Raises:
        AdapterError: It is one.
    """
    spec = shown(opened.spec)
    if opened.coat not in READ:
        raise AdapterError(
            f"{spec} names its modules as {opened.coat} does, expected PEFT's names. Convert it to "
            "PEFT first."
        )


def _told(adapter: Adapter, carried: Mapping[str, TensorEntry]) -> tuple[Skipped, ...]:
    stacks = {
        entry.name
        for own in adapter.factors.values() if own.kind == "parameter"
        for entry in (own.a, own.b)
    }  # fmt: skip
    lengths = {own.magnitude.name for own in adapter.factors.values() if own.magnitude}
    rows = {own.entry.name for own in adapter.rows.values()}
    told = []
    for name in carried:
        what = WHOLE
        if name in stacks:
            what = "factors of a stack of experts"
        elif name in lengths:
            what = "DoRA's lengths"
        elif name in rows:
            what = "rows of an embedding"
        told.append(Skipped(name, f"carried over as it is: {what}"))
    return tuple(told)


def place_of(module: str, own: LoraFactors, role: Role) -> Place:
    """Return the row of a module's update."""
    return Place(
        f"{module}.weight", module, role.kind, role.layer, role.expert, *own.shape, own.a.dtype,
        file=own.a.shard,
    )  # fmt: skip


def roles(factors: Mapping[str, LoraFactors]) -> dict[str, Role]:
    """Return the role of every module by its name."""
    found = roles_of({f"{name}.weight": len(own.a.shape) for name, own in factors.items()})
    return {name: found[f"{name}.weight"] for name in factors}


def inputs_of(
    source: Source, module: str, role: Role, weight: float = 1.0, number: str = ""
) -> tuple[Input, Input]:
    """Return the two factors of a module as a task has them, the scale in B.

    Args:
        source: The adapter.
        module: One of its `factors`.
        role: The module's.
        weight: That of its update in a sum.
        number: What tells it from other adapters' in one task.
    """
    own, weights = source.factors[module], source.adapter.weights
    right, left = own.a, scaled(own.b, own.scale * weight)
    return tuple(
        Input(side + number, weights, View(entry.name, role, entry, Part(), *_flat(entry)))
        for side, entry in (("A", right), ("B", left))
    )  # type: ignore[return-value]


def _flat(entry: TensorEntry) -> tuple[int, int]:
    return entry.shape[0], entry.numel // entry.shape[0]
