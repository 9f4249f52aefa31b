"""compressed-tensors' packed weights: integers of 1 to 8 bits in words, floats of 4."""

from collections.abc import Sequence
from dataclasses import dataclass

from spectra.checkpoint.codecs.fp4 import make_packed_fp4
from spectra.checkpoint.codecs.grid import blocks_of
from spectra.checkpoint.codecs.parts import SCALES, Coded, Family, Found, MisfitError, corrupt
from spectra.checkpoint.codecs.settings import Blocks
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

WORDS = frozenset({"I32"})
INTEGERS = frozenset({"I64", "I32"})


@dataclass(frozen=True, slots=True)
class Packed(Coded):
    """(field - zero point) * scale; a row's fields follow each other without gaps.

    Source:
        `PackedQuantizationCompressor` of compressed-tensors 0.20.
    """

    name: str
    packed: TensorEntry  # [rows, words]
    scale: TensorEntry  # one, [rows, 1] or [rows, groups]
    stated: TensorEntry  # the shape, two numbers
    zero: TensorEntry | None  # packed down the rows; or one signed number
    group: TensorEntry | None  # of each column, where they are in no order
    bits: int
    shape: tuple[int, int]
    blocks: Blocks

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32.

        Raises:
            CheckpointError: The stated shape or a group is not possible.
        """
        stated = read(self.stated, None).tolist()
        if stated != list(self.shape):
            raise corrupt(self.stated, f"the shape {stated}", str(list(self.shape)))
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        group = self._group(read)
        first = slab[0] if slab else 0
        values = numbers.unpack_bits(read(self.packed, slab), self.bits, self.shape[1])
        zero, scale = self._zero(read), read(self.scale, None).float()
        if group is None:
            affine.shift_and_scale(values, zero, scale, self.blocks, first)
            return values
        rows = slice(first, first + len(values))
        below = zero if isinstance(zero, float) else zero[rows]
        affine.shift_and_scale_columns(values, below, scale[rows], group)
        return values

    def _zero(self, read: ReadStored) -> "Tensor | float":
        """Return the zero points, as unsigned as the fields."""
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        middle = float(1 << (self.bits - 1))
        if self.zero is None:
            return middle
        stored = read(self.zero, None)
        if self.zero.dtype == "I8":
            return float(stored) + middle
        return numbers.unpack_bits(stored.T.contiguous(), self.bits, self.shape[0]).T

    def _group(self, read: ReadStored) -> "Tensor | None":
        """Return the group of each column; None where they are in order."""
        if self.group is None:
            return None
        group = read(self.group, None).long()
        low, high = int(group.min()), int(group.max())
        if low == high == -1:  # written so where columns are in order
            return None
        if low < 0 or high >= self.scale.shape[1]:
            groups = self.scale.shape[1]
            raise corrupt(self.group, f"groups {low} to {high}", f"0 to {groups - 1}")
        return group


def make_packed(found: Found) -> TensorEntry:
    """Put one packed weight together.

    Raises:
        MisfitError: The parts do not fit each other.
    """
    if found.main.dtype == "U8":
        return make_packed_fp4(found)
    if "meta" in found.others:
        raise MisfitError("compressed-tensors' marlin-24 is not read")
    rows, _words = found.matrix(WORDS)
    stated = found.need("weight_shape", INTEGERS, (2,))
    scale = found.need("weight_scale", SCALES)
    bits, cols = _told(found, scale) or _stated(found, stated)
    blocks = blocks_of((rows, cols), scale.shape, found.settings.blocks())
    if blocks[0] != 1 and scale.numel > 1:
        raise MisfitError(f"weight_scale is {list(scale.shape)}, expected [{rows}, groups]")
    zero = found.others.get("weight_zero_point")
    if zero is not None and zero.dtype == "I8":
        zero = found.need("weight_zero_point", None, *_singles(scale))
    elif zero is not None:
        groups = scale.shape[1] if len(scale.shape) == 2 else 1
        zero = found.need("weight_zero_point", WORDS, (-(-rows * bits // 32), groups))
    group = found.others.get("weight_g_idx")
    if group is not None:
        scale = found.need("weight_scale", SCALES, (rows, scale.shape[-1] if scale.shape else 1))
        group = found.need("weight_g_idx", INTEGERS, (cols,))
    codec = Packed(
        name=f"compressed-tensors-int{bits}",
        packed=found.main,
        scale=scale,
        zero=zero,
        stated=stated,
        group=group,
        bits=bits,
        shape=(rows, cols),
        blocks=blocks,
    )
    return found.whole((rows, cols), codec)


def _singles(scale: TensorEntry) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of an unpacked zero point; that of a scale for the whole tensor."""
    if scale.numel != 1:
        raise MisfitError("weight_zero_point is I8, expected I32")
    return (), (1,), (1, 1)


def _told(found: Found, scale: TensorEntry) -> tuple[int, int] | None:
    """Return bits and columns where groups and settings leave one choice."""
    words = found.main.shape[1]
    if len(scale.shape) != 2 or scale.shape[1] == 1:
        return None
    sizes = [wide for high, wide in found.settings.blocks() if high == 1]
    fitting = {
        (bits, scale.shape[1] * wide)
        for bits in found.settings.widths()
        for wide in sizes
        if -(-scale.shape[1] * wide * bits // 32) == words
    }
    return fitting.pop() if len(fitting) == 1 else None


def _stated(found: Found, stated: TensorEntry) -> tuple[int, int]:
    """Return bits and columns by the shape that the file states; the words bound it."""
    raw = found.early.get(stated.name)
    if raw is None:
        raise MisfitError("weight_shape is not known, so neither is the width")
    half = len(raw) // 2
    rows, cols = (
        int.from_bytes(piece, "little", signed=True) for piece in (raw[:half], raw[half:])
    )
    shape = found.main.shape
    fitting = [
        bits for bits in found.settings.widths() or range(1, 9)
        if rows == shape[0] and cols > 0 and -(-cols * bits // 32) == shape[1]
    ]  # fmt: skip
    if len(fitting) != 1:
        raise MisfitError(
            f"weight_shape states {[rows, cols]}, which {list(shape)} words do not hold in "
            "one number of bits"
        )
    return fitting[0], cols


def early(found: Found) -> Sequence[TensorEntry]:
    """Return the shape where headers do not tell it."""
    stated = found.others.get("weight_shape")
    scale = found.others.get("weight_scale")
    if stated is None or scale is None or found.main.dtype == "U8" or len(found.main.shape) != 2:
        return ()
    return () if _told(found, scale) else (stated,)


FAMILIES = (
    Family(
        main="weight_packed",
        weight="weight",
        others=(
            "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx",
            "weight_global_scale", "meta",
        ),
        make=make_packed,
        early=early,
    ),
)  # fmt: skip
