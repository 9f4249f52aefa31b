"""What PEFT's own merge makes of a weight where it rounds on the way, and what its sums leave open.

Beside `turns`, whose functions tell in float64 what a method means. A merge has the dtype of the
base it is done in, and adapters in float32: OFT multiplies in the latter, RoAd rounds its matrix to
the former, GLoRA each step. Orders of sums differ from machine to machine, so that what they may
make is told beside each value.

Source:
    `merge` of PEFT 0.21: `tuners/oft`, `tuners/road`, `tuners/glora`.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Final, NamedTuple

from jaxtyping import Float

from spectra.checkpoint.adapter.updates.products import Parts, Told
from spectra.checkpoint.adapter.updates.turns import halves, oft_turn, path
from spectra.deferred import Tensor, torch

UNIT: Final = 2.0**-24  # unit roundoff of float32

Weight = Float[Tensor, "rows cols"]


class Made(NamedTuple):
    """Values before they are stored."""

    dtype: "torch.dtype"  # in which the merge was done
    values: Weight  # float64
    slack: Weight  # how far the order of sums may have moved each


def oft(weight: Weight, t: Parts, told: Told) -> Made:
    """Return W R^T in the adapter's float32."""
    turn = oft_turn(t, told)
    size = turn.shape[-1]
    blocks = weight.double().unflatten(1, (-1, size))
    turn = turn.expand(blocks.shape[1], -1, -1)
    values = torch.einsum("orc,rck->ork", blocks, turn).flatten(1)
    sizes = torch.einsum("orc,rck->ork", blocks.abs(), turn.abs()).flatten(1)
    return Made(torch.float32, values, (4 * size + 16) * UNIT * sizes)


def road(weight: Weight, t: Parts, told: Told) -> Made:
    """Return R W, R rounded to the dtype of W."""
    sides = halves({key: one.float() for key, one in t.items()}, told)
    same, other = (one.to(weight.dtype).double()[:, None] for one in sides)
    wide, half = weight.double(), told["group_size"] // 2
    first, second = wide.view(-1, 2, half, wide.shape[1]).unbind(1)
    turned = torch.stack([-second, first], dim=1).reshape(wide.shape)
    straight, crossed = same * wide, other * turned
    return Made(weight.dtype, straight + crossed, 8 * UNIT * (straight.abs() + crossed.abs()))


def glora(weight: Weight, t: Parts, told: Told) -> Made:  # noqa: ARG001 - as all
    """Return W + (W * A + B), rounded at each step."""

    def made(gain: Tensor, shift: Tensor) -> Tensor:
        return weight + (weight * gain + shift)

    return _between(weight.dtype, made, *(_path(t, f"glora_{side}", weight.dtype) for side in "AB"))


def glora_bias(bias: Weight, t: Parts, told: Told) -> Made:  # noqa: ARG001 - as all
    """Return b + (b * D + E + W C), rounded at each step; a bias is one column."""
    wide, inputs = t["weight"].double().flatten(1), path(t, "glora_C").reshape(-1, 1)
    inputs = inputs.to(bias.dtype).double().expand(wide.shape[1], 1)
    image = wide @ inputs
    slack = (wide.shape[1] + 4) * UNIT * (wide.abs() @ inputs.abs())
    added = [(image + sign * slack).to(bias.dtype) for sign in (0, -1, 1)]

    def made(gain: Tensor, shift: Tensor, more: Tensor) -> Tensor:
        return bias + (bias * gain + shift + more)

    sides = [[one.reshape(-1, 1) for one in _path(t, f"glora_{side}", bias.dtype)] for side in "DE"]
    return _between(bias.dtype, made, *sides, added)


MERGES: Final[Mapping[str, Callable[[Weight, Parts, Told], Made]]] = {
    "oft": oft, "road": road, "glora": glora, "glora_bias": glora_bias,
}  # fmt: skip
"""By the function of `turns`."""


def _path(t: Parts, name: str, dtype: "torch.dtype") -> list[Tensor]:
    """Return what a path of GLoRA gives, and the least and the most that sums may make of it."""
    if f"{name}.Xd" not in t:
        return [path(t, name).to(dtype)] * 3
    left, right = (t[f"{name}.{side}"].double() for side in ("Xd", "Xu"))
    values, slack = left @ right, (2 * left.shape[1] + 4) * UNIT * (left.abs() @ right.abs())
    return [(values + sign * slack).to(dtype) for sign in (0, -1, 1)]


def _between(dtype: "torch.dtype", made: Callable[..., Tensor], *given: list[Tensor]) -> Made:
    """Return what steps make of the middle ones, and how far ends of the others lead away."""
    values = made(*(one[0] for one in given)).double()
    slack = torch.zeros_like(values)
    for ends in product(*((low, high) for _, low, high in given)):
        slack = torch.maximum(slack, (made(*ends).double() - values).abs())
    return Made(dtype, values, slack)
