"""Weights of eight bits times scales: DeepSeek's FP8, compressed-tensors, FBGEMM, ModelOpt."""

from dataclasses import dataclass, replace

from spectra.checkpoint.codecs.fp4 import SCALED_BYTES, make_fp4
from spectra.checkpoint.codecs.grid import blocks_of
from spectra.checkpoint.codecs.parts import FLOAT8, SCALES, Coded, Family, Found, MisfitError
from spectra.checkpoint.codecs.settings import Blocks
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

INVERSE = "_scale_inv"  # DeepSeek's word; its values are multiplied with nevertheless
INVERSE_METHODS = frozenset({"", "fp8", "mxfp8"})
METHODS = {
    "": "scaled",
    "compressed-tensors": "compressed-tensors",
    "fbgemm_fp8": "fbgemm",
    "fp8": "scaled",
    "modelopt": "modelopt",
}
"""Whose `weight_scale` is known to be a factor, and how results name it."""

EXPONENTS = frozenset({"U8", "F8_E8M0"})  # scales that are powers of two
NAMES = {"I8": "int8", **dict.fromkeys(FLOAT8, "fp8")}


@dataclass(frozen=True, slots=True)
class Scaled(Coded):
    """(weight - zero point) * scale, each scale over a block.

    Source:
        DeepSeek-AI 2024, arXiv:2412.19437, 3.3; `_dequantize` of compressed-tensors 0.20.
    """

    name: str
    weight: TensorEntry
    scale: TensorEntry
    zero: TensorEntry | None
    blocks: Blocks
    bits: int = 8

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        stacked = len(self.weight.shape) > 2
        first = slab[0] if slab and not stacked else 0

        def grid(part: TensorEntry) -> Tensor:
            return numbers.scale_values(read(part, slab if stacked and part.numel > 1 else None))

        values = read(self.weight, slab).float()
        zero = grid(self.zero) if self.zero is not None else None
        affine.shift_and_scale(values, zero, grid(self.scale), self.blocks, first)
        return values


@dataclass(frozen=True, slots=True)
class Cast(Coded):
    """Float8 values as they stand.

    Source:
        Micikevicius et al. 2022, arXiv:2209.05433.
    """

    weight: TensorEntry
    name: str = "float8"
    bits: int = 8

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        return read(self.weight, slab).float()


def make_scaled(found: Found) -> TensorEntry:
    """Put a weight and its scales together.

    Raises:
        MisfitError: The parts do not fit, or the scheme is none of those that are read.
    """
    inverse = INVERSE in found.others
    method = found.settings.method
    if (inverse and method not in INVERSE_METHODS) or (not inverse and method not in METHODS):
        raise MisfitError(f"weights of the scheme {found.settings.label} are not read")
    if "_g_idx" in found.others or "pre_quant_scale" in found.others:
        raise MisfitError("weights whose columns were permuted or scaled are not read")
    owner = "deepseek" if inverse else METHODS[method]
    if found.main.dtype in SCALED_BYTES - {"I8"} or (inverse and found.main.dtype == "I8"):
        return make_fp4(found, f"{owner}-fp4" if inverse else "modelopt-nvfp4")
    shape = found.matrix(FLOAT8 | {"I8"}, (2, 3, 4, 5))
    scale = found.need(INVERSE if inverse else "_scale", SCALES | EXPONENTS)
    blocks = blocks_of(shape, scale.shape, found.settings.blocks())
    exponents = scale.dtype in EXPONENTS and not inverse
    name = f"{owner}-{'mxfp8' if exponents else NAMES[found.main.dtype]}"
    zero = found.others.get("_zero_point")
    if zero is not None:
        zero = found.need("_zero_point", SCALES | FLOAT8 | {"I8"}, scale.shape)
    return found.whole(shape, Scaled(name, found.main, scale, zero, blocks))


def make_module(found: Found) -> TensorEntry:
    """Put the weight of a module and its scales together.

    Raises:
        MisfitError: As in `make_scaled`.
    """
    others = {ending.removeprefix("weight"): part for ending, part in found.others.items()}
    return make_scaled(replace(found, others=others))


def make_cast(found: Found) -> TensorEntry:
    """Take float8 values as they stand.

    Raises:
        MisfitError: The settings tell of scales, and none stands beside it.
    """
    method = found.settings.method
    if method in {*METHODS, *INVERSE_METHODS} - {""}:
        raise MisfitError(f"the scale that {found.settings.label} stores beside it is missing")
    if method:
        raise MisfitError(f"weights of the scheme {found.settings.label} are not read")
    if found.others:
        ending = next(iter(found.others)).lstrip("._")
        raise MisfitError(f"float8 weights with a {ending} are not read")
    return found.whole(found.main.shape, Cast(found.main))


ENDINGS = (INVERSE, "_scale", "_scale_2", "_zero_point", "_g_idx")
FAMILIES = (
    Family(
        main="weight",
        weight="weight",
        others=(*(f"weight{ending}" for ending in ENDINGS), "pre_quant_scale"),
        needs=(f"weight{INVERSE}", "weight_scale"),
        dtypes=FLOAT8 | SCALED_BYTES,
        make=make_module,
    ),
    Family(
        main="",
        weight="",
        others=ENDINGS,
        needs=(INVERSE, "_scale"),
        dtypes=FLOAT8 | SCALED_BYTES,
        make=make_scaled,
    ),
)
"""Scales stand beside `X.weight` as `X.weight_scale`, beside a bare `X` as `X_scale`."""

ALONE = (
    Family(
        main="weight",
        weight="weight",
        others=("scale", "qscale_weight", "weight_scales"),
        dtypes=FLOAT8,
        make=make_cast,
    ),
    Family(main="._data", weight="", others=("._scale",), dtypes=FLOAT8, make=make_cast),
    Family(main="", weight="", others=(), dtypes=FLOAT8, make=make_cast),
)
"""What no scale belongs to; scales themselves may look so, and must be known first."""
