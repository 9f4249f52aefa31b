"""Four-bit floats times scales: NVFP4 and MXFP4, packed two to a byte."""

from dataclasses import dataclass

from spectra.checkpoint.codecs.grid import blocks_of
from spectra.checkpoint.codecs.parts import SCALES, Coded, Family, Found, MisfitError
from spectra.checkpoint.codecs.settings import Blocks
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

BYTES = frozenset({"U8"})
SCALED_BYTES = frozenset({"U8", "I8"})
GROUP_SCALES = frozenset({"F8_E4M3", "F8_E8M0", "U8"}) | SCALES
ONE = ((), (1,), (1, 1))  # shapes of a single number
MXFP4_GROUP = 32


@dataclass(frozen=True, slots=True)
class Fp4(Coded):
    """E2M1 values, the low four bits first, times a scale for each group of a row.

    Source:
        OCP Microscaling Formats (MX) 1.0; `NVFP4QTensor` of NVIDIA's Model Optimizer;
        `NVFP4PackedCompressor` of compressed-tensors 0.20.
    """

    name: str
    packed: TensorEntry  # [..., rows, cols / 2]
    scale: TensorEntry
    divisor: TensorEntry | None  # one number that every scale is divided by
    factor: TensorEntry | None  # one number that every scale is multiplied with
    blocks: Blocks
    bits: int = 4

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        stacked = len(self.packed.shape) > 2
        first = slab[0] if slab and not stacked else 0
        values = numbers.unpack_fp4(read(self.packed, slab))
        scale = numbers.scale_values(read(self.scale, slab if stacked else None))
        if self.divisor is not None:
            scale = scale / read(self.divisor, None).reshape(())
        if self.factor is not None:
            scale = scale * read(self.factor, None).reshape(())
        affine.shift_and_scale(values, None, scale, self.blocks, first)
        return values


@dataclass(frozen=True, slots=True)
class Mxfp4(Coded):
    """A stack of experts in gpt-oss's layout: [experts, out, groups, 16] bytes.

    Source:
        OpenAI 2025, arXiv:2508.10925; `convert_moe_packed_tensors` of transformers 5.23.
    """

    blocks: TensorEntry
    scales: TensorEntry
    name: str = "mxfp4"
    bits: int = 4

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return [experts, in, out] as float32, as the model holds it; a transposed view."""
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        values = numbers.unpack_fp4(read(self.blocks, slab))
        values.mul_(numbers.scale_values(read(self.scales, slab))[..., None])
        return values.flatten(2).transpose(1, 2)


def make_fp4(found: Found, name: str) -> TensorEntry:
    """Put a packed weight and its scales together, as ModelOpt and DeepSeek name them.

    Raises:
        MisfitError: The parts do not fit each other.
    """
    inverse = "_scale_inv" in found.others
    if not inverse and "_scale_2" not in found.others:
        raise MisfitError(f"bytes with a scale ({found.settings.label}) are not read")
    shape = found.matrix(SCALED_BYTES, (2, 3))
    shape = (*shape[:-1], 2 * shape[-1])
    scale = found.need("_scale_inv" if inverse else "_scale", GROUP_SCALES)
    factor = None if inverse else found.need("_scale_2", frozenset({"F32"}), *ONE)
    blocks = _groups(found, shape, scale)
    return found.whole(shape, Fp4(name, found.main, scale, None, factor, blocks))


def make_packed_fp4(found: Found) -> TensorEntry:
    """Put a weight of compressed-tensors' nvfp4 or mxfp4 together.

    Raises:
        MisfitError: The parts do not fit each other, or are of six bits.
    """
    rows, half = found.matrix(BYTES)
    if "weight_zero_point" in found.others:
        raise MisfitError("four-bit floats with zero points are not read")
    scale = found.need("weight_scale", GROUP_SCALES - SCALES)
    groups = _groups(found, (rows, 2 * half), scale)
    divisor = found.others.get("weight_global_scale")
    exponents = scale.dtype in {"U8", "F8_E8M0"}
    if divisor is not None:
        divisor = found.need("weight_global_scale", frozenset({"F32"}), *ONE)
    elif not exponents:
        raise MisfitError("weight_global_scale is missing")
    name = f"compressed-tensors-{'mxfp4' if exponents else 'nvfp4'}"
    return found.whole((rows, 2 * half), Fp4(name, found.main, scale, divisor, None, groups))


def _groups(found: Found, shape: tuple[int, ...], scale: TensorEntry) -> Blocks:
    """Return the group that a scale covers; of any other the bytes mean something else."""
    blocks = blocks_of(shape, scale.shape, found.settings.blocks())
    wanted = 16 if scale.dtype == "F8_E4M3" else 32
    if blocks != (1, min(wanted, shape[-1])):
        raise MisfitError(
            f"scales {list(scale.shape)} over {list(shape)} four-bit floats give blocks of "
            f"{blocks[0]} x {blocks[1]}, expected 1 x {wanted}"
        )
    return blocks


def make_mxfp4(found: Found) -> TensorEntry:
    """Put a stack of gpt-oss's experts together.

    Raises:
        MisfitError: The parts do not fit each other.
    """
    experts, outputs, groups, size = found.matrix(BYTES, (4,))
    if 2 * size != MXFP4_GROUP:
        raise MisfitError(f"blocks is {list(found.main.shape)}, expected groups of 16 bytes")
    scales = found.need("_scales", BYTES, (experts, outputs, groups))
    return found.whole((experts, groups * MXFP4_GROUP, outputs), Mxfp4(found.main, scales))


FAMILIES = (
    Family(
        main="_blocks",
        weight="",
        others=("_scales",),
        needs=("_scales",),
        dtypes=BYTES,
        make=make_mxfp4,
    ),
)
