"""What is known of one model when its rules are judged: measurements, headers, references."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.checkpoint.damaged import Fault
from spectra.matrices.place import COLUMNS
from spectra.words import VECTOR

BUFFERS = re.compile(
    r"(?:.*\.)?(?:inv_freq|(?:freqs_)?(?:cos|sin)(?:_cached)?|position_ids|token_type_ids|num_batches_tracked|relative_position_index"
    r"|weight_integer|bias_integer|(?:\w+_)?mask(?:ed_bias)?|masked_bias|attn\.bias|attention\.bias|embed_positions\.weights)"
)
"""What modules keep beside their weights; some versions of a library store it, others do not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One matrix, or one tensor that is none, with what was measured of it."""

    name: str  # of the matrix; of a vector, its tensor's
    tensor: str
    role: str
    layer: int | None
    expert: int | None
    rows: int
    cols: int  # 1 for a vector
    dtype: str
    codec: str | None
    file: str | None  # the shard that holds it
    status: str
    values: Mapping[str, Any]

    @property
    def is_matrix(self) -> bool:
        """Say whether it is one, not a vector."""
        return self.role != VECTOR

    def number(self, key: str) -> float | None:
        """Return a measured number, or None where there is none."""
        value = self.values.get(key)
        return float(value) if isinstance(value, int | float) else None

    @staticmethod
    def read(row: Mapping[str, Any], file: str | None = None) -> "Subject":
        """Return what the row of a result tells, live or saved.

        Args:
            row: Its keys and values, as `Row.flat` has them.
            file: The shard, which no row names.

        Raises:
            KeyError: Something of its identity is missing.
        """
        name = row["matrix"]
        own = {key: row[key] for key in (*COLUMNS, "status") if key != "matrix"}
        return Subject(name, **own, file=file, values=row)


@dataclass(frozen=True, slots=True)
class Fit:
    """An adapter, and what of it fits neither its base nor its settings."""

    modules: int
    ranks: Mapping[str, int]  # of factors, by module
    scales: Mapping[str, float]
    factors: Mapping[str, Sequence[str]]  # the tensors of each module of which none may be zero
    changes: int  # modules, new rows and whole tensors
    saved: int = 0  # of these, tensors that are stored whole, such as a classifier
    moving: Sequence[str] = ()  # tensors that are added to biases, at a scale that is not zero
    others: int = 0  # modules that another method than LoRA changes
    method: str = "LoRA"
    lost: Sequence[str] | None = None  # modules that match nothing; None: no base is given
    misshapen: Sequence[str] = ()  # matrices that its updates do not fit, and both shapes
    unnamed: Sequence[str] = ()  # modules that its settings do not name, so that PEFT has none
    contradictions: Mapping[str, str] = field(default_factory=dict)  # by module, a sentence
    unused: Sequence[tuple[str, str]] = ()  # patterns that fit no module, with their table


@dataclass(frozen=True, slots=True)
class Facts:
    """All that rules may look at."""

    subjects: Mapping[str, Subject]  # by name, in natural order
    config: Mapping[str, Any] = field(default_factory=dict)  # config.json
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of every tensor in the files, also of those that are no weights."""
    empty: Sequence[str] = ()  # tensors of weights without elements
    index: Mapping[str, str] | None = None  # shard by tensor, as the index has it
    index_name: str = ""  # the file of that index
    held: Mapping[str, str] = field(default_factory=dict)  # shard by tensor, as the shards have it
    faults: Sequence[Fault] = ()
    files: Sequence[str] = ()  # names in the folder
    is_adapter: bool = False  # of which there is a spectrum only beside its base
    failed: Mapping[str, str] = field(default_factory=dict)
    """What could not be measured, of it and of its references, and why, by name."""
    adapter: Fit | None = None  # that it is, or that was merged into it
    base: "Facts | None" = None  # what the model was trained from
    baseline: "Facts | None" = None  # the release before
    proxy: Mapping[str, Any] | None = None  # summary of `width` against the rule's proxy
    known: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What several rules conclude of these facts, each once; facts that differ start anew."""

    def matrices(self) -> Iterator[Subject]:
        """Yield the matrices; what modules keep beside their weights is none of them."""
        return (subject for subject in self.subjects.values() if subject.is_matrix
                and not is_buffer(subject.tensor, self.shapes.get(subject.tensor, ())))  # fmt: skip

    def by_role(self) -> dict[str, list[Subject]]:
        """Return the matrices of each role."""
        found: dict[str, list[Subject]] = {}
        for subject in self.matrices():
            found.setdefault(subject.role, []).append(subject)
        return found


def is_buffer(name: str, shape: Sequence[int] = ()) -> bool:
    """Say whether a tensor is no weight, by its name; a mask of attention is not a bias."""
    found = BUFFERS.fullmatch(name)
    return found is not None and (not name.endswith(("attn.bias", "attention.bias"))
                                  or len(shape) > 2)  # fmt: skip
