"""One stored tensor as its header describes it, and the dtypes of safetensors."""

from dataclasses import dataclass
from math import prod

import torch

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Every dtype that a header may name, with its width in bits."""

FLOATING = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""The dtypes whose values are weights as they stand."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies: known from a header, before any weight is read."""

    name: str
    dtype: str  # safetensors' own word, a key of BITS
    shape: tuple[int, ...]
    shard: str  # file name inside the checkpoint
    start: int  # bytes from the start of that file
    stop: int

    @property
    def nbytes(self) -> int:
        """Stored size in bytes."""
        return self.stop - self.start

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A tensor that is not analysed, and why; nothing vanishes silently."""

    tensor: str
    reason: str
