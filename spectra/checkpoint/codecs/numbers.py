"""Packed bits to numbers: nibbles, bit fields that cross words, exponents alone."""

from functools import cache
from math import gcd

from jaxtyping import Float, Int32

from spectra.deferred import Tensor, torch

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""E2M1, by its four bits. Source: OCP Microscaling Formats (MX) 1.0, 5.3.3."""


@cache
def powers() -> Tensor:
    """Return E8M0: 2^(bits - 127), as libraries have it; 255, NaN by the standard, is infinite."""
    return torch.tensor([2.0 ** (exponent - 127) for exponent in range(256)])


def unpack_bits(words: Int32[Tensor, "rows words"], bits: int, count: int) -> Tensor:
    """Return the unsigned fields of each row, packed without gaps from the lowest bit on.

    Args:
        words: 32 bits each; a field may begin in one and end in the next.
        bits: Of one field, 1 to 8.
        count: Fields of a row, at most those that its words hold.

    Returns:
        float32, [rows, count].
    """
    share = gcd(32, bits)
    fields, span = 32 // share, bits // share  # the pattern repeats after so many words
    short = -words.shape[1] % span
    if short:
        words = torch.nn.functional.pad(words, (0, short))
    runs = words.view(len(words), -1, span)
    values = torch.empty(*runs.shape[:2], fields, dtype=torch.float32)
    for field in range(fields):
        word, offset = divmod(field * bits, 32)
        over = offset + bits - 32  # bits that stand in the next word
        found = runs[..., word] >> offset  # the sign bit comes along, and is masked off
        if over > 0:
            found.bitwise_and_((1 << (bits - over)) - 1)
            found.bitwise_or_(runs[..., word + 1] << (bits - over))
        values[..., field] = found.bitwise_and_((1 << bits) - 1)
    return values.flatten(1)[:, :count].contiguous()


def unpack_nibbles(packed: Tensor, code: Float[Tensor, "16"], *, high_first: bool) -> Tensor:
    """Return two values a byte.

    Args:
        packed: [..., n], of a dtype of any width; its bytes count.
        code: What each of 16 patterns means.
        high_first: Whether the high four bits are the first value.

    Returns:
        float32, [..., 2 n] for bytes.
    """
    high = code.repeat_interleave(16)  # by byte
    low = code.repeat(16)
    pairs = torch.stack((high, low) if high_first else (low, high), dim=1)
    found = packed.view(torch.uint8)
    values = pairs.index_select(0, found.flatten().int())
    return values.view(*found.shape[:-1], 2 * found.shape[-1])


def unpack_fp4(packed: Tensor) -> Tensor:
    """Return E2M1 values, the low four bits first: float32, [..., 2 n] for bytes [..., n]."""
    return unpack_nibbles(packed, torch.tensor(FP4), high_first=False)


def scale_values(stored: Tensor) -> Tensor:
    """Return stored scales as float32; bytes are exponents alone (E8M0)."""
    if stored.dtype == torch.uint8:
        return powers().index_select(0, stored.flatten().int()).view(stored.shape)
    return stored.to(torch.float32)


def untiled(stored: Tensor) -> Tensor:
    """Return scales [128 r, 4 c] that lie tile after tile, row by row.

    A tile holds 128 rows and 4 columns: row r at place 16 (r mod 32) + 4 (r div 32).
    """
    down, across = stored.shape[0] // 128, stored.shape[1] // 4
    tiles = stored.reshape(down, across, 32, 4, 4)
    return tiles.permute(0, 3, 2, 1, 4).reshape(stored.shape)


def flip_lowest(stored: Tensor, bits: int) -> Tensor:
    """Return packed codes with the lowest bit of each turned: a neighbour of every code.

    Args:
        stored: Fields packed along the last axis without gaps from the lowest bit on, in a
            dtype of any width; float8 where each value is a code.
        bits: Of one field, 1 to 8; 8 for float8.

    Returns:
        The same dtype and shape. A float8 whose neighbour is no number goes the other way.
    """
    turned = stored.contiguous().view(torch.uint8)
    if bits == 8 and stored.is_floating_point():
        turned = turned ^ 1
        bad = ~turned.view(stored.dtype).float().isfinite()
        return (turned ^ 2 * bad.byte()).view(stored.dtype)
    fields = sum(1 << bits * field for field in range(8)).to_bytes(bits, "little")
    return xor_pattern(turned, fields).view(stored.dtype)


def flip_last_places(stored: Tensor) -> Tensor:
    """Return floats of 16 bits or more some steps away: as many as a product in them is off.

    One for those of 16 bits, which are rounded from wider ones; eight for wider ones, in
    which products of some thousand terms are computed.
    """
    size = stored.element_size()
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    return (stored.view(whole) ^ (1 if size == 2 else 8)).view(stored.dtype)


def xor_pattern(stored: Tensor, pattern: bytes) -> Tensor:
    """Return bytes [..., n] with those of a pattern, repeated along the last axis, turned."""
    size = stored.shape[-1]
    repeated = torch.frombuffer(bytearray(pattern), dtype=torch.uint8)
    return stored ^ repeated.repeat(-(-size // len(pattern)))[:size]
