"""bitsandbytes: four-bit codes with a scale for each run of entries, LLM.int8() rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from spectra.checkpoint.codecs.parts import Coded, Family, Found, MisfitError, corrupt
from spectra.checkpoint.codecs.settings import LARGEST
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
FLOAT = frozenset({"F32"})
BYTES = frozenset({"U8"})
FLOAT32_MAX = 3.4028234663852886e38
PER_BYTE = 7.874015718698502e-3  # 1 / 127, as bitsandbytes multiplies


@dataclass(frozen=True, slots=True)
class Nested:
    """Scales that are quantised themselves."""

    codes: TensorEntry  # 256 values
    scales: TensorEntry  # one for each run of scales
    run: int
    offset: float


@dataclass(frozen=True, slots=True)
class FourBits:
    """code[four bits] * scale, over runs of the flattened weight; the high four bits first.

    Source:
        Dettmers et al. 2023, arXiv:2305.14314; `dequantize_4bit` of bitsandbytes 0.50.
    """

    name: str
    packed: TensorEntry
    codes: TensorEntry  # 16 values
    scales: TensorEntry  # one for each run
    state: TensorEntry  # JSON: shape, run and so on
    nested: Nested | None
    run: int
    shape: tuple[int, ...]

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """Packed codes, what they mean, scales, the state."""
        nested = (self.nested.codes, self.nested.scales) if self.nested else ()
        return (self.packed, self.codes, self.scales, self.state, *nested)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        packed, codes = read(self.packed, None).flatten(), read(self.codes, None)
        values = numbers.unpack_nibbles(packed, codes, high_first=True)
        values = values[: prod(self.shape)].view(1, -1)
        affine.shift_and_scale(values, None, self._scales(read)[None], (1, self.run))
        values = values.view(self.shape)
        return values if slab is None else values[slab[0] : slab[1]]

    def _scales(self, read: ReadStored) -> Tensor:
        scales = read(self.scales, None).flatten()
        if self.nested is None:
            return scales
        from spectra.checkpoint.codecs import affine  # noqa: PLC0415 - needs torch

        values = read(self.nested.codes, None).index_select(0, scales.int())
        above = read(self.nested.scales, None)[None]
        affine.shift_and_scale(values[None], None, above, (1, self.nested.run))
        return values.add_(self.nested.offset)

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the codes with the lowest bit of each turned."""
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        return numbers.flip_lowest(main.reshape(-1), 4).view(main.shape)


@dataclass(frozen=True, slots=True)
class Int8(Coded):
    """weight * scale / 127 for each row.

    Source:
        Dettmers et al. 2022, arXiv:2208.07339; `int8_vectorwise_dequant` of bitsandbytes 0.50.
    """

    weight: TensorEntry
    scales: TensorEntry
    layout: TensorEntry | None  # one byte: 0 for rows
    name: str = "bitsandbytes-int8"
    bits: int = 8

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32.

        Raises:
            CheckpointError: The weight is in a layout for tensor cores of old.
        """
        if self.layout is not None and (code := int(read(self.layout, None).max())):
            raise corrupt(self.layout, f"the layout {code}", "0 (row)")
        values = read(self.weight, slab).float()
        scales = read(self.scales, slab).reshape(-1, 1)
        return values.mul_(scales).mul_(PER_BYTE)


def make_four_bits(found: Found) -> TensorEntry:
    """Put one weight of four bits together.

    Raises:
        MisfitError: The parts do not fit each other or their state.
    """
    kinds = [kind for kind in KINDS if STATE + kind in found.others]
    if len(kinds) != 1 or not found.main.numel:
        raise MisfitError("bitsandbytes weights with two states or no values are not read")
    state = found.others[STATE + kinds[0]]
    told = _state(found.early.get(state.name), kinds[0])
    shape, run = _shape(told.get("shape")), _whole(told.get("blocksize"), "blocksize")
    count, nbytes = prod(shape), found.main.stop - found.main.start
    if nbytes != -(-count // 2):
        raise MisfitError(
            f"quant_state states the shape {list(shape)}, {-(-count // 2):,} bytes, and there "
            f"are {nbytes:,}"
        )
    runs = -(-count // run)
    nested = None
    if ".nested_absmax" in found.others:
        nested = _nested(found, told, runs)
    codec = FourBits(
        name=f"bitsandbytes-{kinds[0]}",
        packed=found.main,
        codes=found.need(".quant_map", FLOAT, (16,)),
        scales=found.need(".absmax", BYTES if nested else FLOAT, (runs,)),
        state=state,
        nested=nested,
        run=run,
        shape=shape,
    )
    return found.whole(shape, codec)


def _nested(found: Found, told: dict[str, Any], runs: int) -> Nested:
    run = _whole(told.get("nested_blocksize"), "nested_blocksize")
    offset = told.get("nested_offset")
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not _fits(offset):
        raise MisfitError("quant_state has no nested_offset")
    return Nested(
        codes=found.need(".nested_quant_map", FLOAT, (256,)),
        scales=found.need(".nested_absmax", FLOAT, (-(-runs // run),)),
        run=run,
        offset=float(offset),
    )


def _fits(number: float) -> bool:
    """Say whether a JSON number, which may be a whole one of any size, is a finite float32."""
    return abs(number) <= FLOAT32_MAX  # false for NaN


def _state(raw: bytes | None, kind: str) -> dict[str, Any]:
    try:
        told = json.loads(raw.decode("utf-8")) if raw else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or told.get("quant_type") != kind:
        raise MisfitError(f"quant_state is no JSON object of the type {kind}, or too long")
    return told


def _whole(found: Any, what: str) -> int:  # noqa: ANN401 - any JSON value
    if type(found) is not int or not 0 < found < LARGEST:
        raise MisfitError(f"quant_state has the {what} {found!r:.40}, expected a positive number")
    return found


def _shape(found: Any) -> tuple[int, ...]:  # noqa: ANN401 - any JSON value
    """Return a shape; its size is compared with the bytes."""
    if not isinstance(found, list) or not 0 < len(found) < 9:
        raise MisfitError(f"quant_state has the shape {found!r:.40}, expected a list of numbers")
    return tuple(_whole(extent, "shape") for extent in found)


def make_int8(found: Found) -> TensorEntry:
    """Put one weight of LLM.int8() together.

    Raises:
        MisfitError: The parts do not fit each other.
    """
    rows, cols = found.matrix(frozenset({"I8"}))
    scales = found.need("SCB", FLOAT, (rows,))
    layout = found.others.get("weight_format")
    if layout is not None:
        layout = found.need("weight_format", BYTES, (), (1,))
    return found.whole((rows, cols), Int8(found.main, scales, layout))


def early(found: Found) -> Sequence[TensorEntry]:
    """Return the states, which alone tell the shape."""
    return [found.others[STATE + kind] for kind in KINDS if STATE + kind in found.others]


FAMILIES = (
    Family(
        main="",
        weight="",
        others=(
            STATE + "nf4", STATE + "fp4", ".absmax", ".quant_map", ".nested_absmax",
            ".nested_quant_map",
        ),
        needs=(STATE + "nf4", STATE + "fp4"),
        make=make_four_bits,
        early=early,
    ),
    Family(
        main="weight",
        weight="weight",
        others=("SCB", "weight_format"),
        needs=("SCB",),
        dtypes=frozenset({"I8"}),
        make=make_int8,
    ),
)  # fmt: skip
