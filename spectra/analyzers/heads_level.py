"""Lines of heads brought near 1 by powers of two: no product of them leaves float32 or float64."""

from dataclasses import dataclass, replace

from spectra.deferred import Tensor, torch
from spectra.kernels.heads import power_of_two

FAR = 2.0**40  # times larger or smaller than 1, from which on lines are divided


@dataclass(frozen=True, slots=True)
class Side:
    """Some lines of queries or keys, and how long what they are multiplied with can be.

    Where each query passes a norm of its own: how long it can be itself.
    """

    lines: Tensor  # heads x lines x inputs
    reach: float | None  # None: not known
    bias: Tensor | None = None  # heads x lines
    scale: Tensor | float = 1.0  # float64, a head: what lines and bias are to be multiplied with


class Levelled:
    """Lines of heads near 1, each divided by a power of two where it is far from it.

    The same lines are the same afterwards.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def of(self, side: Side) -> Side:
        """Return a side with its lines so."""
        known = self._known.get(id(side.lines))
        if known is None:
            largest = _largest(side.lines)
            far = (largest > FAR) | (largest < 1.0 / FAR)
            found, scale = side.lines, torch.ones_like(largest, dtype=torch.float64)
            if bool((far & (largest > 0.0)).any()):
                sound = largest.isfinite() & (largest > 0.0)
                scale = power_of_two(largest.double().where(sound, 0.5))
                found = (found.double() / scale[:, None, None]).to(found.dtype)
            known = side.lines, found, scale, largest.isfinite()
            self._known[id(side.lines)] = self._known[id(found)] = known
        _, found, scale, _ = known
        bias = None if side.bias is None else side.bias.double() / scale[:, None]
        return replace(side, lines=found, bias=bias, scale=scale)

    def sound(self, side: Side) -> Tensor:
        """Say of each head whether all is a number."""
        found = self._known[id(side.lines)][3]
        return found if side.bias is None else found & _largest(side.bias).isfinite()


def _largest(lines: Tensor) -> Tensor:
    """Return the largest entry in size of each head, without a copy; NaN where it holds that."""
    inner = tuple(range(1, lines.ndim))
    return torch.maximum(-lines.amin(dim=inner), lines.amax(dim=inner))
