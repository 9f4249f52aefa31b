"""What an export is, and the check that all of them end with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.exports.memory import Memory
from spectra.exports.parameters import Parameter, Target
from spectra.matrices import View
from spectra.text import quote

LEAVE_OUT = "Leave it out with --exclude, or use --export names."
TOLD = 3  # notes of one kind that are spelled out


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be exported."""

    selected: tuple[View, ...]  # in the order of the ranking
    checkpoint: Checkpoint
    targets: tuple[Target, ...] = ()  # the parameters that hold them, in the same order
    parameters: Mapping[str, Parameter] = field(default_factory=dict)  # all of the model, by name
    memory: Memory = field(default_factory=lambda: Memory({}, {}))

    @property
    def modules(self) -> list[str]:
        """Every module of the model, as far as known, also those that hold others."""
        return [name for name in self.memory.layers if name]


@dataclass(frozen=True, slots=True, repr=False)
class Export:
    """Files for one consumer, checked to select exactly what was selected."""

    form: str
    files: Mapping[str, str]  # text by suffix; the first is the one to print
    notes: tuple[str, ...] = ()  # sentences that the user must read

    def __repr__(self) -> str:
        """Show the file to print, and what must be read beside it."""
        return "\n".join([self.text.rstrip(), *(f"note: {told}" for told in self.notes)])

    @property
    def suffix(self) -> str:
        """The suffix of the file to print or to write where only one is asked for."""
        return next(iter(self.files))

    @property
    def text(self) -> str:
        """The file to print."""
        return self.files[self.suffix]


def require_exact(
    form: str, wanted: Collection[str], hit: Collection[str], instead: str = ""
) -> None:
    """Refuse an export that its consumer would read as another set.

    Args:
        form: The export's name.
        wanted: What was selected.
        hit: What the consumer's own rule finds among all names.
        instead: What to do about it.

    Raises:
        UsageError: The sets differ.
    """
    selected, found = set(wanted), set(hit)
    missed = next((name for name in wanted if name not in found), None)
    more = next((name for name in hit if name not in selected), None)
    instead = instead or "Use --export python, which goes by whole names."
    if missed is not None:
        raise UsageError(
            f"--export {form} would miss the selected {quote(missed)}: its name cannot be written "
            f"so that {form} finds it. {instead}"
        )
    if more is not None:
        raise UsageError(
            f"--export {form} would also take {quote(more)}, which was not selected: its name "
            f"fits what selects another. {instead}"
        )


def notes_on(targets: Sequence[Target], *, spans: bool = False) -> tuple[str, ...]:
    """Say of each parameter what is trained with it that was not selected."""
    told = [text for target in targets if (text := target.told(spans=spans))]
    more = len(told) - TOLD
    if more > 0:
        tensors = "1 more tensor trains" if more == 1 else f"{more:,} more tensors train"
        told = [*told[:TOLD], f"{tensors} matrices that were not selected."]
    return tuple(told)


def notes_on_quantised(job: Job) -> tuple[str, ...]:
    """Say which tensors cannot be trained as they are stored."""
    found = [view.entry for view in job.selected if view.entry.is_quantised]
    if not found:
        return ()
    scheme = found[0].codec.name if found[0].codec else ""
    told = (
        f"{quote(found[0].name)} is stored as {scheme}: whole weights can be trained only where "
        "the model is loaded dequantised; --export peft trains beside them."
    )
    return (told,)
