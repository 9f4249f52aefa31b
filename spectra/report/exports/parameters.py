"""The parameters of a model in memory, and which of its matrices each of them holds.

What trains a model speaks of its parameters as transformers holds them. A checkpoint may
store a tensor for each expert where memory has one stack of all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.quote import quote, shown
from spectra.engine.stacks import stacks_of
from spectra.errors import UsageError
from spectra.matrices import View, views_of
from spectra.report.exports.renames import names_in_memory

Span = tuple[int, int]
"""Start and stop on the first axis of a parameter."""


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


def parameters_of(checkpoint: Checkpoint) -> dict[str, Parameter]:
    """Return every parameter that a checkpoint's tensors become, in the order of the file."""
    config, entries = checkpoint.config, checkpoint.entries
    stacked = {
        tensor: (next(iter(names_in_memory(name, config).values())), stack.shape, piece[0])
        for name, stack in stacks_of(entries).items()
        for tensor, piece in stack.pieces.items()
        if piece[0] is not None
    }
    shapes: dict[str, tuple[int, ...]] = {}
    held: dict[str, dict[str, tuple[Span, ...]]] = {}
    experts: dict[str, int] = {}
    for tensor, entry in entries.items():
        if tensor in stacked:
            name, shape, _ = stacked[tensor]
            shapes[name], experts[name] = shape, shape[0]
        else:
            for name in names_in_memory(tensor, config).values():
                shapes[name] = entry.shape
    for view in views_of(checkpoint)[0]:
        if view.entry.name in stacked:
            name, _, expert = stacked[view.entry.name]
            own: tuple[Span, ...] = ((expert or 0, (expert or 0) + 1),)
        else:
            names = names_in_memory(view.entry.name, config)
            apart = view.part.label if view.part.label in names else ""
            name = names.get(apart, next(iter(names.values())))
            own = ((0, view.rows),) if apart else _spans(view)
            if apart:
                shapes[name] = (view.rows, view.cols)
            if view.part.expert is not None:
                experts[name] = max(experts.get(name, 0), view.part.expert + 1)
        held.setdefault(name, {})[view.name] = own
    return {
        name: Parameter(name, shape, held.get(name, {}), experts.get(name, 0))
        for name, shape in shapes.items()
    }


def targets_of(selected: Sequence[View], parameters: Mapping[str, Parameter]) -> list[Target]:
    """Return the parameters that hold the selected matrices, in the order of these.

    Raises:
        UsageError: Nothing is selected, or a matrix is none of this checkpoint.
    """
    if not selected:
        raise UsageError("nothing is selected to export. Select with --select, such as 10%.")
    owner = {matrix: one for one in parameters.values() for matrix in one.matrices}
    chosen: dict[str, dict[str, View]] = {}
    for view in selected:
        if view.name not in owner:
            raise UsageError(
                f"the selected matrix {quote(view.name)} is none of this checkpoint. Export what "
                "was selected from the same one."
            )
        chosen.setdefault(owner[view.name].name, {})[view.name] = view
    return [Target(parameters[name], tuple(views.values())) for name, views in chosen.items()]


def _spans(view: View) -> tuple[Span, ...]:
    """Return where on the stored tensor's first axis a matrix lies."""
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
