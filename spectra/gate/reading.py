"""One model of a check: which of its tensors are read, and the facts that come of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.analyzers import Row
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.damaged import Survey
from spectra.checkpoint.digest import weights_digest
from spectra.checkpoint.fingerprints import Ledger
from spectra.errors import NothingToAnalyseError, PairingError
from spectra.matrices import View, match_names, views_of
from spectra.matrices.part import Part
from spectra.matrices.role import Role, roles_of
from spectra.policy.facts import Facts, Subject
from spectra.runs.result import counted_codecs
from spectra.text import counted, natural, shown
from spectra.words import FAILED, VECTOR
from spectra.work import Model
from spectra.work.planning.plan import weights_of


@dataclass(frozen=True, slots=True)
class Reading:
    """A model, every tensor of which is to be read once."""

    part: str  # model, base or baseline
    survey: Survey
    views: tuple[View, ...]  # its matrices, and its vectors as such of one column
    left: tuple[Skipped, ...]  # what is neither, and why

    @property
    def is_adapter(self) -> bool:
        """Say whether it is an adapter, which is something only together with its base."""
        return isinstance(self.survey.checkpoint, Adapter)

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint that is read; an adapter's own tensors."""
        return weights_of(self.survey.checkpoint)

    def model(self, ledger: Ledger | None = None) -> Model:
        """Return what the document says of it."""
        opened = self.survey.checkpoint
        codecs = counted_codecs(view.entry for view in self.views)
        digest = weights_digest(self.weights.files, ledger)
        return Model(opened.spec, opened.resolved, self.part, codecs, digest=digest)

    def facts(self, rows: Iterable[Row]) -> Facts:
        """Return what rules may look at; what could not be measured is not there."""
        survey, weights = self.survey, self.weights
        return Facts(
            subjects={
                row.matrix: Subject.read(row.flat(), row.place.file)
                for row in rows
                if row.status != FAILED
            },
            config=weights.config,
            shapes={name: entry.shape for name, entry in weights.entries.items()},
            empty=[name for name, entry in weights.entries.items()
                   if entry.is_weights and not entry.numel],
            index=survey.index,
            index_name=survey.index_name,
            held=survey.held,
            faults=survey.faults,
            files=survey.files,
            is_adapter=self.is_adapter,
        )  # fmt: skip


def plan_reading(part: str, survey: Survey) -> Reading:
    """Plan to read a model whole: its matrices, and every other tensor of weights.

    Raises:
        NothingToAnalyseError: It holds no weights.
    """
    weights = weights_of(survey.checkpoint)
    views, skipped = views_of(weights)
    held = {view.entry.name for view in views}
    roles = roles_of({name: len(entry.shape) for name, entry in weights.entries.items()})
    vectors = [
        _vector(entry, roles[name])
        for name, entry in weights.entries.items()
        if name not in held and entry.is_weights and entry.numel
    ]
    read = {view.name for view in vectors}
    left = tuple(item for item in skipped if item.tensor not in read)
    if not views and not vectors:
        why = f" {left[0].tensor}: {left[0].reason}." if left else ""
        stubs = sum(not entry.numel for entry in weights.entries.values())
        if stubs:
            why = (
                f" {counted(stubs, 'tensor')} of it without elements: the save did not gather what "
                "training had spread over processes (ZeRO-3, FSDP). Save it again, gathered."
            )
        raise NothingToAnalyseError(
            f"{shown(weights.spec)} holds no weights that can be judged.{why}"
        )
    every = sorted([*views, *vectors], key=lambda view: natural(view.name))
    return Reading(part, survey, tuple(every), left)


def _vector(entry: TensorEntry, role: Role) -> View:
    """Return a tensor that is no matrix as one of a single column, or of as many as it takes."""
    rows = entry.shape[0] if entry.shape else 1
    role = replace(role, kind=VECTOR)
    return View(entry.name, role, entry, Part(), rows, entry.numel // rows)


def renamed(facts: Facts, names: Sequence[str]) -> Facts:
    """Return a reference with the names of the model it is compared with.

    Names may differ by a prefix, such as `bert.` under a task head.

    Args:
        facts: Of the reference.
        names: Tensors of the model.
    """
    own = list({**facts.shapes, **{one.tensor: () for one in facts.subjects.values()}})
    try:
        pairs, _ = match_names(own, names, "tensor")
    except PairingError:
        return facts
    new = {old: name for old, name in pairs.items() if old != name}
    if not new:
        return facts
    subjects = [_renamed(subject, new) for subject in facts.subjects.values()]
    return replace(
        facts,
        subjects={subject.name: subject for subject in subjects},
        shapes={new.get(name, name): shape for name, shape in facts.shapes.items()},
    )


def _renamed(subject: Subject, new: Mapping[str, str]) -> Subject:
    tensor = new.get(subject.tensor, subject.tensor)
    suffix = subject.name[len(subject.tensor) :]
    return replace(subject, tensor=tensor, name=tensor + suffix)
