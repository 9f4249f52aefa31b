"""What an adapter holds whole, beside factors: norms, biases, and weights that PEFT only saves."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from spectra.analyzers import Row
from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.adapter.views import sliced
from spectra.errors import UsageError
from spectra.lowrank.homes import Homes
from spectra.lowrank.output import Output, Part
from spectra.lowrank.parameters import changed_shape
from spectra.lowrank.pieces import Carried
from spectra.text import counted, listed, quote
from spectra.writing.peft import PREFIX

WHOLE = "written whole"
FULL = f"{WHOLE}: its update is of full rank"
VECTOR = f"{WHOLE}: a norm or a bias"
LOADED = f"{WHOLE}, by its name in the model: PEFT loads it, but does not save it again"
UNSAVED = "not held: of no module that PEFT saves"
WHOLE_NUMBERS = "not held: not floating point"
COUNT = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var", COUNT)
"""Of a batch norm, without which PEFT refuses one that is saved."""

ROOM = 64 << 20  # bytes of a tensor that is compared at a time
FOLLOWED = frozenset({"embed_tokens", "lm_head"})
"""What modules are called that PEFT ties again by itself (`EMBEDDING_LAYER_NAMES`)."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A tensor that is written whole where it changed, since it has no factors."""

    before: TensorEntry
    after: TensorEntry
    parameter: str  # in memory; empty: it is not written
    saved: bool  # by `modules_to_save`; else it is a bias, which PEFT loads by itself
    told: str = VECTOR  # of one that changed
    tied: bool = False  # saved under several names

    @property
    def doubtful(self) -> bool:
        """Whether only reading tells if it is written, which takes room."""
        return self.before.shape == self.after.shape and len(self.before.shape) > 1

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.parameter.rpartition(".")[0]


def saved_weight(homes: Homes, before: TensorEntry, after: TensorEntry, reason: str) -> list[Whole]:
    """Return a weight of which PEFT has no factors, as it is written, or why it is not.

    Args:
        homes: Of the base.
        before: In the base.
        after: In the tuned model, perhaps of another shape.
        reason: Why it has no factors.
    """
    names = homes.saved(before)
    if not names:
        if reason.startswith("tied") and not homes.memory.exact:
            reason += ". With transformers, which knows the names of the tie, it is written whole"
        shape = "" if before.shape == after.shape else f"; {changed_shape(before, after)}"
        return [Whole(before, after, "", saved=False, told=f"not held: {reason}{shape}")]
    told = f"{WHOLE}: {reason}"
    return [Whole(before, after, one, saved=True, told=told, tied=len(names) > 1) for one in names]


def vectors(
    homes: Homes, tuned: Checkpoint, partners: Mapping[str, str], taken: Set[str]
) -> Iterator[Whole]:
    """Yield norms, biases and all else that is no matrix, written whole where it changed.

    Args:
        homes: Of the base.
        tuned: What became of it.
        partners: Names of its tensors by those of the base.
        taken: Tensors of the base that are held otherwise.
    """
    for name, other in partners.items():
        before, after = homes.base.entries[name], tuned.entries[other]
        weights = (before.is_weights and after.is_weights) or name.endswith(COUNT)
        if name in taken:
            continue
        if not weights:
            if (before.dtype, after.dtype) == ("I64", "I64"):  # a buffer, no part of packed weights
                yield Whole(before, after, "", saved=False, told=WHOLE_NUMBERS)
            continue
        if before.shape != after.shape:
            told = f"not held: {changed_shape(before, after)}"
            yield Whole(before, after, "", saved=False, told=told)
            continue
        for parameter, one, two in _landed(homes, before, after):
            yield from _vector(homes, parameter, one, two)


def _landed(
    homes: Homes, before: TensorEntry, after: TensorEntry
) -> Iterator[tuple[str, TensorEntry, TensorEntry]]:
    """Yield what a tensor is in memory, parameter by parameter; no name where that is unknown."""
    parameter = homes.parameter(before) or _statistic(homes, before.name)
    landed = homes.memory.landings.get(before.name, ())
    known = all(one.rows and one.place == (0, one.rows[1] - one.rows[0]) and one.turn is None
                for one in landed)  # fmt: skip
    if parameter or len(landed) < 2 or not known:
        yield parameter, before, after
        return
    for one in landed:
        rows = one.rows or (0, before.shape[0])
        yield one.name, sliced(before, rows), sliced(after, rows)


def _statistic(homes: Homes, name: str) -> str:
    """Return what a batch norm's statistic is called in memory, where its weight is."""
    stem, _, leaf = name.rpartition(".")
    weight = homes.base.entries.get(f"{stem}.weight")
    if leaf not in STATISTICS or weight is None:
        return ""
    module, _, _ = homes.parameter(weight).rpartition(".")
    return f"{module}.{leaf}" if module else ""


def _vector(
    homes: Homes, parameter: str, before: TensorEntry, after: TensorEntry
) -> Iterator[Whole]:
    module, _, leaf = parameter.rpartition(".")
    if not parameter:
        yield Whole(before, after, "", saved=False, told=UNSAVED)
        return
    # A module that is adapted, or holds others, is not saved for a vector of its own.
    plain = leaf in ("weight", "bias", *STATISTICS) and module and not homes.holds_weights(module)
    if plain and not homes.is_matrix(module):
        yield Whole(before, after, parameter, saved=True)
        return
    told = VECTOR if "bias" in leaf else LOADED
    for one in (parameter, *homes.memory.tied.get(parameter, ())):
        yield Whole(before, after, one, saved=False, told=told)


def named(homes: Homes, whole: Iterable[Whole]) -> list[Whole]:
    """Return tensors as they are written, those by their names that `modules_to_save` cannot mean.

    PEFT saves every module whose name ends with one of those, in letters: `norm` is also
    `input_layernorm`.

    Source:
        PEFT 0.21, `utils.other._set_trainable`.
    """
    others = homes.memory.layers
    found = []
    for one in whole:
        if one.saved and any(key.endswith(one.module) and key != one.module for key in others):
            told = LOADED if one.told == VECTOR else one.told
            found.append(replace(one, saved=False, tied=False, told=told))
        else:
            found.append(one)
    return found


@dataclass(slots=True)
class Changed:
    """Which tensors are not what they were: each is read once."""

    base: Checkpoint
    tuned: Checkpoint
    _known: dict[str, bool] = field(default_factory=dict)

    def __call__(self, before: TensorEntry, after: TensorEntry) -> bool:
        """Say whether a tensor of the base is another in the tuned model."""
        if before.name not in self._known:
            self._known[before.name] = differs(self.base, self.tuned, before, after)
        return self._known[before.name]


def written(whole: Iterable[Whole], changed: Changed) -> list[Whole]:
    """Return what is written of those tensors: what changed, and all else of a saved module."""
    own = list(whole)
    found = [one for one in own if changed(one.before, one.after)]
    modules = {one.module for one in found if one.saved}
    return [one for one in own if one.parameter and (one in found or one.module in modules)]


def settled(
    output: Output, tuned: Checkpoint, whole: Iterable[Whole], changed: Changed, held: Set[str]
) -> tuple[Output, list[Skipped]]:
    """Return the output with those tensors alone that changed, and what to say of them.

    Args:
        output: As it was planned.
        tuned: What became of the base.
        whole: All that may be written whole.
        changed: Tells which are not what they were.
        held: The rows of which something is kept as factors.
    """
    own = list(whole)
    found = [one for one in own if changed(one.before, one.after)]
    told = {
        one.before.name: Skipped(one.before.name, one.told)
        for one in found if one.before.shape == one.after.shape or one.tied or not one.parameter
    }  # fmt: skip
    kept = written(own, changed)
    modules = {one.module for one in found if one.saved}
    biased = any("bias" in one.parameter and one.module not in modules for one in kept)
    tied = {one.module for one in found if one.tied}
    given = {
        **output.given,
        "modules_to_save": sorted(modules) or None,
        "bias": "all" if biased else "none",
    }
    if len(tied) == 2 and any(one.rpartition(".")[2] == "lm_head" for one in tied):
        given["ensure_weight_tying"] = True
    return replace(output, given=given, carried=carried(tuned, kept, output.parts, held)), [
        *told.values()
    ]


def carried(
    tuned: Checkpoint, whole: Iterable[Whole], parts: Mapping[str, Part], held: Set[str] | None
) -> dict[str, Carried]:
    """Return whole tensors by their names in the file.

    Args:
        tuned: That they are read from.
        whole: Which.
        parts: What may be written as factors.
        held: The rows of which something is; None: all.
    """
    wrapped = Counter(
        part.name for key, part in parts.items()
        if held is None or not held.isdisjoint(part.members or (key,))
    )  # fmt: skip
    found = {}
    for one in whole:
        if not one.parameter:
            continue
        module, _, leaf = one.parameter.rpartition(".")
        inner = "" if one.saved else ".base_layer" * wrapped[module]
        found[PREFIX + f"{module}{inner}.{leaf}".removeprefix(".")] = Carried(tuned, one.after)
    return found


def of_full_rank(rows: Sequence[Row], parts: Mapping[str, Part], to: str) -> list[Row]:
    """Return the rows that have no rank of their own, so that their tensors are written whole.

    Args:
        rows: Those whose directions are written.
        parts: What may be written as factors.
        to: Whose names and files.

    Raises:
        UsageError: No row has a rank, or a tensor cannot be written whole.
    """
    full = [row for row in rows if row.number("rank_kept") is None]
    asked = any(row.number("delta_rank") is not None for row in rows)
    kinds = sorted({str(row.values["delta_kind"]) for row in rows} - {"unchanged"})
    if asked and kinds and not any(row.number("rank_kept") for row in rows):
        raise UsageError(
            f"--delta-rank finds no update that factors hold in full: {listed(kinds)} is all that "
            f"became of {counted(len(rows), 'matrix', 'matrices')}. Expected --rank, --energy or "
            "--budget, which write the leading directions of any."
        )
    stuck = [row for row in full
             if to != "peft" or row.matrix not in parts or parts[row.matrix].parameter]  # fmt: skip
    if stuck:
        first, plain = stuck[0].place, stuck[0].matrix in parts
        leaving = f", or --exclude {quote(first.tensor)}" if plain else ""
        raise UsageError(
            f"{counted(len(stuck), 'update is', 'updates are')} of full rank, e.g. "
            f"{quote(stuck[0].matrix)} ({first.rows:,} x {first.cols:,}), and cannot be written "
            f"whole. Expected --rank beside --delta-rank, the most that each gets{leaving}."
        )
    return full


def differs(base: Checkpoint, tuned: Checkpoint, before: TensorEntry, after: TensorEntry) -> bool:
    """Say whether a tensor is not what it was, a few of its rows in memory at a time."""
    if before.shape != after.shape:
        return True
    count = before.shape[0] if before.shape else 1
    step = max(1, ROOM * count // max(before.nbytes, 1))
    slabs = [(start, min(start + step, count)) for start in range(0, count, step)]
    return any(
        bool((base.read(before, slab) != tuned.read(after, slab)).any())
        for slab in (slabs if before.shape else [None])
    )
