"""The parameters of a model in memory, and which of its matrices each of them holds.

What trains a model speaks of its parameters as transformers holds them. A checkpoint may
store a tensor for each expert where memory has one stack of all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spectra.architectures.renaming import Landing, Span
from spectra.checkpoint import Checkpoint
from spectra.exports.memory import Memory
from spectra.matrices import View, views_of
from spectra.text import shown


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, and where on its first axis each of its matrices lies."""

    name: str
    shape: tuple[int, ...]
    matrices: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)  # by matrix name
    experts: int = 0  # in one stack; 0: no stack


@dataclass(frozen=True, slots=True)
class Target:
    """A parameter to train, for the selected matrices that it holds."""

    parameter: Parameter
    selected: tuple[View, ...]

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the selected matrices lie on the first axis, joined where they touch."""
        held = self.parameter.matrices
        return _joined(span for view in self.selected for span in held[view.name])

    @property
    def is_whole(self) -> bool:
        """Say whether the selected matrices reach over the whole first axis."""
        return self.spans == ((0, self.parameter.shape[0]),)

    def trained(self, *, spans: bool = False) -> list[str]:
        """Return the matrices that are trained: all of them, or those within the spans."""
        if not spans:
            return list(self.parameter.matrices)
        return [
            name
            for name, own in self.parameter.matrices.items()
            if any(a < stop and start < b for a, b in own for start, stop in self.spans)
        ]

    def told(self, *, spans: bool = False) -> str:
        """Say what is trained that was not selected; empty where nothing is."""
        held, selected = len(self.parameter.matrices), len(self.selected)
        trained = len(self.trained(spans=spans))
        if trained == selected:
            return ""
        name, experts = shown(self.name), self.parameter.experts
        if experts:
            fused = f"transformers 5 holds the {experts} experts of a layer in one tensor, {name}"
        else:
            fused = f"{name} holds {held} matrices in one tensor"
        count = f"all {held}" if trained == held else f"{trained} of {held}"
        was = "was" if selected == 1 else "were"
        return f"{fused}: {count} matrices are trained, of which {selected} {was} selected."


def parameters_of(checkpoint: Checkpoint, memory: Memory) -> dict[str, Parameter]:
    """Return every parameter of a checkpoint's model, and the matrices that each holds."""
    held: dict[str, dict[str, tuple[Span, ...]]] = {}
    experts: dict[str, int] = {}
    for view in views_of(checkpoint)[0]:
        for landing in memory.landings.get(view.entry.name, ()):
            shape = memory.shapes[landing.name]
            if _is_of_another_turn(view, landing):
                continue
            own = _placed(_spans(view), landing, (0, shape[0] if shape else 1))
            if not own:
                continue
            held.setdefault(landing.name, {})[view.name] = own
            if landing.expert is not None or view.part.expert is not None:
                experts[landing.name] = shape[0]
    return {
        name: Parameter(name, shape, held.get(name, {}), experts.get(name, 0))
        for name, shape in memory.shapes.items()
    }


def _is_of_another_turn(view: View, landing: Landing) -> bool:
    """Say whether rows that are given out in turn go to other parameters than this one."""
    rows = view.part.rows
    if landing.turn is None or rows is None or rows.size != landing.turn[1]:
        return False
    return not rows.start <= landing.turn[0] < rows.stop


def _placed(spans: tuple[Span, ...], landing: Landing, whole: Span) -> tuple[Span, ...]:
    """Return where rows of a stored tensor lie on a parameter's first axis; none: elsewhere."""
    if landing.rows is None:
        return (landing.place or whole,)
    first, last = landing.rows
    inside = [(max(a, first), min(b, last)) for a, b in spans if a < last and first < b]
    if not inside:
        return ()
    if landing.place is None:
        return (whole,)
    by = landing.place[0] - first
    return _joined((a + by, b + by) for a, b in inside)


def targets_of(selected: Sequence[View], parameters: Mapping[str, Parameter]) -> list[Target]:
    """Return the parameters that hold the selected matrices, in the order of these."""
    owners: dict[str, list[str]] = {}
    for one in parameters.values():
        for matrix in one.matrices:
            owners.setdefault(matrix, []).append(one.name)
    chosen: dict[str, dict[str, View]] = {}
    for view in selected:
        for name in owners.get(view.name, ()):
            chosen.setdefault(name, {})[view.name] = view
    return [Target(parameters[name], tuple(views.values())) for name, views in chosen.items()]


def _spans(view: View) -> tuple[Span, ...]:
    part = view.part
    start, stop = part.slab or (0, view.entry.shape[0])
    within = part.expert is not None and part.block is None  # rows are the second axis
    if part.rows is None or part.transposed or within:
        return ((start, stop),)
    rows = part.rows
    blocks = (start + block * rows.size for block in range(rows.groups))
    return _joined((block + rows.start, block + rows.stop) for block in blocks)


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in order, those that touch as one."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)
