"""GPTQ: integers packed down the inputs, zero points and scales by group of inputs."""

from dataclasses import dataclass

from spectra.checkpoint.codecs.awq import make_awq
from spectra.checkpoint.codecs.parts import SCALES, Family, Found, MisfitError, corrupt
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

WORDS = frozenset({"I32"})
WIDTHS = (2, 3, 4, 8)
CARRY = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}
"""One in every field of a word."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """(field - zero point) * scale, then transposed to rows = outputs.

    The first version of the format stores zero points less one. GPTQModel takes and gives
    that one a word at a time, so that it carries from field to field; only at 3 bits, where
    fields cross words, does each field wrap around alone.

    Source:
        Frantar et al. 2022, arXiv:2210.17323; GPTQModel 7.7,
        `convert_gptq_v1_to_v2_format_module` and `dequantize_weight`.
    """

    name: str
    words: TensorEntry  # [inputs * bits / 32, outputs]
    zeros: TensorEntry  # [groups, outputs * bits / 32]
    scales: TensorEntry  # [groups, outputs]
    group: TensorEntry | None  # of each input; None: in order
    bits: int
    shape: tuple[int, int]  # outputs, inputs
    less_one: bool  # the first version

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """Words, zero points, scales, groups."""
        group = (self.group,) if self.group is not None else ()
        return (self.words, self.zeros, self.scales, *group)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32.

        Raises:
            CheckpointError: An input belongs to a group that does not exist.
        """
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        inputs = self.shape[1]
        group = self._group(read)
        words = read(self.words, None).T.contiguous()
        values = numbers.unpack_bits(words, self.bits, inputs)
        zeros, scales = self._zeros(read), read(self.scales, None).float().T
        if group is None:
            blocks = 1, inputs // self.scales.shape[0]
            affine.shift_and_scale(values, zeros, scales, blocks)
        else:
            affine.shift_and_scale_columns(values, zeros, scales, group)
        return values if slab is None else values[slab[0] : slab[1]]

    def _zeros(self, read: ReadStored) -> Tensor:
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        words = read(self.zeros, None)
        if self.less_one and self.bits in CARRY:
            words = words + CARRY[self.bits]  # 32 bits, and wraps around
        zeros = numbers.unpack_bits(words, self.bits, self.shape[0])
        if self.less_one and self.bits not in CARRY:
            zeros = zeros.add_(1).remainder_(1 << self.bits)
        return zeros.T

    def _group(self, read: ReadStored) -> "Tensor | None":
        """Return the group of each input; None where they are in order."""
        if self.group is None:
            return None
        groups = self.scales.shape[0]
        group = read(self.group, None).long()
        low, high = int(group.min()), int(group.max())
        if low < 0 or high >= groups:
            raise corrupt(self.group, f"groups {low} to {high}", f"0 to {groups - 1}")
        return group

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the words with each field's lowest bit turned, down the inputs."""
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        return numbers.flip_lowest(main.T, self.bits).T


def make_words(found: Found) -> TensorEntry:
    """Put a `qweight` and its parts together, by the scheme that the settings name.

    Raises:
        MisfitError: They name none that is read, or the parts do not fit each other.
    """
    method = found.settings.method
    if method == "awq":
        return make_awq(found)
    if method != "gptq":
        raise MisfitError(f"weights of the scheme {found.settings.label} are not read")
    return make_gptq(found)


def make_gptq(found: Found) -> TensorEntry:
    """Put one GPTQ weight together.

    Raises:
        MisfitError: The parts do not fit each other, or the layout is another.
    """
    layout = found.settings.word("checkpoint_format", "format") or "gptq"
    if found.settings.values.get("is_marlin_format") is True:
        layout = "marlin"
    if layout not in {"gptq", "gptq_v2"}:
        raise MisfitError(f"GPTQ weights in the layout {layout!r:.40} are not read")
    height, width = found.matrix(WORDS)
    scales = found.need("scales", SCALES)
    zeros = found.need("qzeros", WORDS)
    group = found.others.get("g_idx")
    if group is not None:
        group = found.need("g_idx", WORDS | {"I64"})
    if scales.shape[1:] != (width,) or zeros.shape[:1] != scales.shape[:1] or len(zeros.shape) != 2:
        raise MisfitError(
            f"qweight {[height, width]}, scales {list(scales.shape)} and qzeros "
            f"{list(zeros.shape)} do not fit"
        )
    bits, inputs = _bits(found, zeros, group)
    if group is None and inputs % scales.shape[0]:
        raise MisfitError(f"g_idx is missing, and {scales.shape[0]} groups do not divide {inputs}")
    codec = Gptq(
        name=f"gptq-{bits}bit",
        words=found.main,
        zeros=zeros,
        scales=scales,
        group=group,
        bits=bits,
        shape=(width, inputs),
        less_one=layout == "gptq",
    )
    return found.whole((width, inputs), codec)


def _bits(found: Found, zeros: TensorEntry, group: TensorEntry | None) -> tuple[int, int]:
    """Return bits and inputs; every layer may have its own."""
    height, width = found.main.shape
    fitting = []
    for bits in WIDTHS:
        inputs = group.numel if group is not None else height * 32 // bits
        held = (-(-inputs * bits // 32), -(-width * bits // 32))
        if held == (height, zeros.shape[1]) and (group is None or group.shape == (inputs,)):
            fitting.append((bits, inputs))
    told = found.settings.number("bits")
    if len(fitting) > 1:
        fitting = [pair for pair in fitting if pair[0] == told]
    if len(fitting) != 1:
        size = f", g_idx {list(group.shape)}" if group is not None else ""
        raise MisfitError(
            f"qweight {[height, width]}, qzeros {list(zeros.shape)}{size} fit no width of "
            f"{', '.join(map(str, WIDTHS))} bits (config.json: {told or 'none'})"
        )
    return fitting[0]


FAMILIES = (
    Family(
        main="qweight",
        weight="weight",
        others=("qzeros", "scales", "g_idx"),
        make=make_words,
    ),
)
