"""The identity of a row: which matrix of which model, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Which matrix a row is about; of several matrices, what they have in common."""

    tensor: str
    matrix: str  # unique within one model
    role: str  # one of `words.ROLES`, `words.VECTOR`, or of several matrices their group
    layer: int | None
    expert: int | None
    rows: int
    cols: int
    dtype: str  # as stored
    codec: str | None = None  # by which quantised values are decoded
    file: str = ""  # the shard that holds it
    part: str = ""  # of a tensor that holds several matrices, such as `q`
    labels: Mapping[str, str | int] = field(default_factory=dict)
    """Which model of several it is from: `model`, and its `width` or `step`."""

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.rows * self.cols

    def flat(self) -> dict[str, Any]:
        """Return what results say of it, in the order of their columns."""
        return {**self.labels, **{key: getattr(self, key) for key in COLUMNS}}


COLUMNS = (
    "tensor", "matrix", "role", "layer", "expert", "rows", "cols", "dtype", "codec",
)  # fmt: skip
"""Keys of every row, whatever was measured."""
