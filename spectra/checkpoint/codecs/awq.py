"""AWQ in the GEMM layout: four-bit integers packed across the outputs, in an order of its own."""

from dataclasses import dataclass

from spectra.checkpoint.codecs.parts import SCALES, Coded, Found, MisfitError
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch

WORDS = frozenset({"I32"})
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of a word's eight outputs its first, second, ... four bits belong to."""


@dataclass(frozen=True, slots=True)
class Awq(Coded):
    """(field - zero point) * scale, then transposed to rows = outputs.

    Source:
        Lin et al. 2023, arXiv:2306.00978; `WQLinear_GEMM.from_linear` and
        `dequantize_gemm` of AutoAWQ 0.2.9.
    """

    words: TensorEntry  # [inputs, outputs / 8]
    zeros: TensorEntry  # [groups, outputs / 8]
    scales: TensorEntry  # [groups, outputs]
    name: str = "awq-4bit"
    bits: int = 4

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine  # noqa: PLC0415 - needs torch

        values = _turned(read(self.words, None))
        zeros, scales = _turned(read(self.zeros, None)), read(self.scales, None).float().T
        blocks = 1, self.words.shape[0] // self.scales.shape[0]
        affine.shift_and_scale(values, zeros, scales, blocks)
        return values if slab is None else values[slab[0] : slab[1]]


def _turned(words: Tensor) -> Tensor:
    """Return the fields of words [rows, n] in the order of the outputs: [8 n, rows], float32."""
    across = words.T.contiguous()
    values = torch.empty(across.shape[0], 8, across.shape[1], dtype=torch.float32)
    for field, output in enumerate(ORDER):
        values[:, output] = (across >> 4 * field).bitwise_and_(15)
    return values.flatten(0, 1)


def make_awq(found: Found) -> TensorEntry:
    """Put one AWQ weight together.

    Raises:
        MisfitError: The parts do not fit each other, or the layout is another.
    """
    layout = found.settings.word("version", "checkpoint_format", "format") or "gemm"
    bits = found.settings.number("bits") or found.settings.number("w_bit") or 4
    if layout != "gemm" or bits != 4:
        raise MisfitError(f"AWQ weights of {bits} bits in the layout {layout!r:.40} are not read")
    inputs, width = found.matrix(WORDS)
    scales = found.need("scales", SCALES)
    groups = scales.shape[0]
    if scales.shape != (groups, 8 * width) or inputs % groups:
        raise MisfitError(
            f"qweight {[inputs, width]} and scales {list(scales.shape)} do not fit, expected "
            f"[groups, {8 * width}]"
        )
    zeros = found.need("qzeros", WORDS, (groups, width))
    return found.whole((8 * width, inputs), Awq(found.main, zeros, scales))
