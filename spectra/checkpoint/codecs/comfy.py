"""ComfyUI's weights, marked with their format in a tensor beside them or in the file's header."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.checkpoint.codecs.grid import blocks_of
from spectra.checkpoint.codecs.parts import FLOAT8, SCALES, Coded, Family, Found, MisfitError
from spectra.checkpoint.codecs.rotated import REGULAR, Rotated, Rotation, is_power
from spectra.checkpoint.codecs.scaled import Scaled
from spectra.checkpoint.entry import FLOATING, ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch
from spectra.text import quote

MARK = "comfy_quant"
ONE = ((), (1,), (1, 1))
TILE = (128, 4)  # rows and columns of scales that cuBLAS takes together
DTYPES = {
    "float8_e4m3fn": frozenset({"F8_E4M3", "U8"}),
    "float8_e5m2": frozenset({"F8_E5M2", "U8"}),
    "mxfp8": frozenset({"F8_E4M3", "U8"}),
    "nvfp4": frozenset({"U8"}),
    "int8_tensorwise": frozenset({"I8"}),
    "convrot_w4a4": frozenset({"I8", "U8"}),
}
"""What each format that is read stores its weights as; bytes stand for the floats too."""

FLOATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "mxfp8": "F8_E4M3"}
HARMLESS = frozenset(
    {"format", "full_precision_matrix_mult", "orig_dtype", "num_experts", "linear_dtype", "params"}
)
OWN: dict[str, dict[str, int | None]] = {
    "nvfp4": {"group_size": 16},
    "mxfp8": {"group_size": 32},
    "int8_tensorwise": {"convrot": None, "convrot_groupsize": None},
    "convrot_w4a4": {"convrot": None, "convrot_groupsize": None, "quant_group_size": None},
}
"""Keys that a format has besides, and the one value that they may have."""


@dataclass(frozen=True, slots=True)
class Tiled(Coded):
    """Small floats times the scale of a run of columns, the scales in cuBLAS's tiles.

    The scales of 128 rows and 4 runs lie together: row r of a tile at place 16 (r mod 32) +
    4 (r div 32). Of four-bit floats the first of two is in the high four bits.

    Source:
        `dequantize_nvfp4`, `dequantize_mxfp8` and `from_blocked` of comfy-kitchen 0.2.40.
    """

    name: str
    weight: TensorEntry  # [rows, cols], or two columns in a byte
    scale: TensorEntry  # whole tiles
    factor: TensorEntry | None  # one number
    shape: tuple[int, int]
    wide: int  # columns that share a scale
    bits: int

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        first, last = slab or (0, self.shape[0])
        stored = read(self.weight, (first, last))
        if self.factor is None:
            values = stored.float()
        else:
            values = numbers.unpack_nibbles(stored, torch.tensor(numbers.FP4), high_first=True)
        scale = numbers.scale_values(read(self.scale, None))
        if self.factor is not None:
            scale = scale * read(self.factor, None).reshape(())
        grid = numbers.untiled(scale)[:, : self.shape[1] // self.wide]
        affine.shift_and_scale(values, None, grid, (1, self.wide), first)
        return values


@dataclass(frozen=True, slots=True)
class Signed4(Coded):
    """Signed integers of four bits, the low ones first, times a scale for each row.

    Source:
        `dequantize_convrot_w4a4_weight` of comfy-kitchen 0.2.40.
    """

    packed: TensorEntry  # [rows, cols / 2]
    scale: TensorEntry  # [rows]
    name: str = "comfy-int4"
    bits: int = 4

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        signed = torch.tensor([*range(8), *range(-8, 0)], dtype=torch.float32)
        values = numbers.unpack_nibbles(read(self.packed, slab), signed, high_first=False)
        return values.mul_(read(self.scale, slab).float().reshape(-1, 1))


def make_marked(found: Found) -> TensorEntry:
    """Put a marked weight together.

    Raises:
        MisfitError: The mark or the format is not understood, or the parts do not fit.
    """
    marked = _mark(found)
    layout = str(marked.get("format"))
    if layout not in DTYPES:
        raise MisfitError(f"ComfyUI's weights in the format {quote(layout)} are not read")
    for key, value in marked.items():
        own = OWN.get(layout, {})
        if key not in HARMLESS | own.keys() or own.get(key) not in (None, value):
            told = f"{quote(key)}: {quote(value)}"
            raise MisfitError(f"ComfyUI's mark of the weight is not understood: {told}")
    if "pre_quant_scale" in found.others:
        raise MisfitError("weights whose columns were permuted or scaled are not read")
    shape = found.matrix(DTYPES[layout], (2, 3))
    if layout in {"nvfp4", "mxfp8"}:
        return _tiled(found, layout)
    if layout == "convrot_w4a4":
        scale = found.need("weight_scale", SCALES, shape[:1], (shape[0], 1))
        whole = found.whole((shape[0], 2 * shape[1]), Signed4(found.main, scale))
        return _turned(whole, {"convrot": True, **marked})
    main = replace(found.main, dtype=FLOATS.get(layout, found.main.dtype))
    scale = found.need("weight_scale", SCALES)
    blocks = blocks_of(shape, scale.shape, ())
    if blocks[1] != shape[-1]:
        raise MisfitError(f"weight_scale is {list(scale.shape)}, expected one value, or one a row")
    name = "comfy-int8" if layout == "int8_tensorwise" else "comfy-fp8"
    whole = found.whole(shape, Scaled(name, main, scale, None, blocks))
    return _turned(whole, marked)


def _mark(found: Found) -> Mapping[str, Any]:
    """Return what is said of one weight, the settings inside `params` among it."""
    beside = found.others.get(MARK)
    raw = found.early.get(beside.name, b"") if beside is not None else found.main.note
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise MisfitError(f"ComfyUI's mark of the weight is no JSON object: {quote(raw)}")
    inner = told.get("params")
    return {**(inner if isinstance(inner, dict) else {}), **told}


def _tiled(found: Found, layout: str) -> TensorEntry:
    rows, cols = found.matrix(DTYPES[layout])
    four = layout == "nvfp4"
    wide, cols = (16, 2 * cols) if four else (32, cols)
    if cols % wide:
        raise MisfitError(f"{cols} columns are no whole number of runs of {wide}")
    padded = tuple(-(-count // size) * size for count, size in zip((rows, cols // wide), TILE,
                                                                   strict=True))  # fmt: skip
    dtype = "F8_E4M3" if four else "F8_E8M0"
    scale = replace(found.need("weight_scale", frozenset({dtype, "U8"}), padded), dtype=dtype)
    factor = found.need("weight_scale_2", frozenset({"F32"}), *ONE) if four else None
    main = found.main if four else replace(found.main, dtype="F8_E4M3")
    told = found.bias.shape[0] if found.bias is not None and len(found.bias.shape) == 1 else rows
    kept = told if 0 <= rows - told < wide else rows  # rows are padded to whole runs
    codec = Tiled(f"comfy-{layout}", main, scale, factor, (kept, cols), wide, 4 if four else 8)
    return found.whole((kept, cols), codec)


def _turned(entry: TensorEntry, marked: Mapping[str, Any]) -> TensorEntry:
    """Return the weight with ConvRot's rotation of its columns undone, where there is one."""
    if not marked.get("convrot"):
        return entry
    size = marked.get("convrot_groupsize", 256)
    if type(size) is not int or size < 4 or not is_power(size, REGULAR) or entry.shape[-1] % size:
        raise MisfitError(
            f"ConvRot in groups of {quote(size)} does not fit {entry.shape[-1]} columns"
        )
    return replace(entry, codec=Rotated(entry, (Rotation(size, REGULAR),)))


def make_old(found: Found) -> TensorEntry:
    """Put a weight together as ComfyUI stored it before it marked each: times `scale_weight`.

    Raises:
        MisfitError: The parts do not fit each other.
    """
    shape = found.matrix(FLOAT8 | frozenset(FLOATING), (2, 3, 4, 5))
    scale = found.need("scale_weight", SCALES, *ONE)
    blocks = blocks_of(shape, scale.shape, ())
    name, bits = ("comfy-fp8", 8) if found.main.dtype in FLOAT8 else ("comfy-scaled", 0)
    return found.whole(shape, Scaled(name, found.main, scale, None, blocks, bits))


def make_flag(_found: Found) -> TensorEntry:
    """Take the tensor that says that others are scaled.

    Raises:
        MisfitError: Always: it is no weight.
    """
    raise MisfitError("ComfyUI's mark that other weights are scaled, no weight")


def early(found: Found) -> Sequence[TensorEntry]:
    """Return the mark beside the weight."""
    return [found.others[MARK]] if MARK in found.others else []


FAMILIES = (
    Family(
        main="weight",
        weight="weight",
        others=(
            MARK, "weight_scale", "weight_scale_2", "weight_zeros", "weight_s_rel",
            "weight_s_channel", "weight_codebook", "weight_correction", "pre_quant_scale",
            "input_scale",
        ),
        needs=(MARK,),
        noted=True,
        make=make_marked,
        early=early,
    ),
    Family(
        main="weight",
        weight="weight",
        others=("scale_weight", "scale_input"),
        needs=("scale_weight",),
        dtypes=FLOAT8 | frozenset(FLOATING),
        make=make_old,
    ),
    Family(main="scaled_fp8", weight="scaled_fp8", others=(), make=make_flag),
)  # fmt: skip
