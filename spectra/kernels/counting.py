"""How many singular values lie beyond a point: no Krylov space can have missed one.

Residuals prove that a singular value is near each Ritz value. They cannot prove that no
other one was missed: that needs the random start. Let A = W W^T, Omega a Gaussian block
that the space was started from (perhaps among other columns), Q, T, E, F as in `lanczos`,
and suppose that A has c + 1 eigenvalues x_l >= x, with orthonormal eigenvectors
U = (u_0 .. u_c). Put Z = U^T Q and let (theta_i, s_i) be the eigenpairs of T,
zeta_i = Z s_i, omega_i = s_i^T Q^T Omega. Then

    U^T Omega = sum_i zeta_i omega_i                                                    (1)

and, multiplying A Q = Q T + (leaving the space) + F from the left by u_l^T, for every
polynomial p of degree below the number of steps s, as T is block tridiagonal,

    sum_i zeta_li (p(x_l) - p(theta_i)) omega_i = sum_i (f_l s_i) h(x_l, theta_i) omega_i,   (2)

h(x, t) = (p(x) - p(t)) / (x - t), and row by row

    |zeta_i|_2 <= (residual_i + f_i) / (x - theta_i),       f_i >= |(f_0 s_i .. f_c s_i)|.   (3)

The f_i that a `Space` gives also bound sums, for any numbers c_i: the norm of sum_i (f_l s_i)
c_i omega_i, over all l, is at most the root of the sum of (f_i c_i |omega_i|)^2. (If F is
F_1 B^T, f_l s_i = sqrt(theta_i) u_l^T F_1 t_i with t_i orthonormal: |F_1| times the root of
the sum of (sqrt(theta_i) c_i |omega_i|)^2, by Cauchy and Schwarz.)

Divide row l of (2) by p(x_l) and put it into (1): the sum of zeta_li p(theta_i) / p(x_l)
omega_i and of the rounding term. Its part from the c largest Ritz values, rounding included,
has rank c. If |p| grows beyond x, the rest has norm at most

    sqrt(sum of q_i^2 |omega_i|^2) + sum of leak_i q_i |omega_i|
      + sqrt(sum of (f_i (1 + q_i) / (x - theta_i))^2 |omega_i|^2),   q_i = |p(theta_i) / p(x)|,

the first sum over the Ritz values that have not converged, the second over those of which
(3) says that the leak is small. So the smallest singular value of the Gaussian matrix
U^T Omega, (c + 1) x b, is no more than that. But it exceeds `gaussian_floor` with
probability 1 - FAILURE. If the sum is less, A has at most c eigenvalues >= x. The same holds
below the spectrum, with <= x. Any p is allowed; the kernel polynomial of the weights at x is
the one that makes the first two sums least, up to the split.

`FAILURE` is over the seed that drew Omega, whatever the matrix, provided that it was not
made to meet this seed.

Source:
    The argument is that of Saad 1980 (SIAM J. Numer. Anal. 17(5)) for block Lanczos, turned
    from a priori to a posteriori; the floor is Chen and Dongarra 2005 as in Halko,
    Martinsson and Tropp 2011, arXiv:0909.4061, proposition 10.4.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.lanczos import Ritz
from spectra.kernels.rounding import EPS64

FAILURE = 1e-12  # probability
SPARE = 4  # random columns beyond those counted, which the floor needs
SMALL_LEAK = 0.05


def gaussian_floor(columns: int, counted: int, failure: float = FAILURE) -> float:
    """Return what the smallest singular value of `counted + 1` Gaussian rows exceeds.

    Except with probability `failure`; 0 where there are too few columns to say.
    """
    extra = columns - counted  # p + 1 of the proposition
    if extra <= SPARE:
        return 0.0
    times: float = failure ** (1.0 / extra)
    return times * extra / (math.e * math.sqrt(columns))


class Space(NamedTuple):
    """What a Krylov space knows, and how far rounding may have led it astray."""

    ritz: Ritz
    random: int  # how many columns of the start block, the first ones, are Gaussian
    steps: int
    rounding: Callable[[float], Float[Tensor, " size"]]
    """f_i of every Ritz vector for an eigenvalue x; over |x - theta_i| it falls as x leaves."""


def at_most(counted: int, point: float, space: Space) -> bool:
    """Say whether it is proven that at most `counted` eigenvalues are >= point.

    The point lies between the Ritz values `counted - 1` and `counted`, or outside of all: with
    `counted = 0` and a point below every one, it is proven that none is <= point. A point as near
    to a Ritz value as float64 rounding of the largest one proves nothing.
    """
    ritz = space.ritz
    floor = gaussian_floor(space.random, counted)
    values = ritz.values[counted:]
    if not floor or not len(values):
        return False
    above = float(values[0]) < point
    if not above and (counted or not point < float(values[-1])):
        return False  # within the Ritz values that are to lie on one side
    # Decomposing T moves each of its eigenvalues by that much, so that zero is never seen.
    moved = len(ritz.values) * EPS64 * float(ritz.values[0])
    distance = (values - point).abs() - moved
    if float(distance.min()) <= 0.0:
        return False  # Ritz value and point are one to rounding
    weight = torch.linalg.vector_norm(ritz.start[counted:, : space.random], dim=1)
    rounding = space.rounding(point)[counted:]
    leak = (ritz.residual[counted:] + rounding) / distance
    converged = leak < SMALL_LEAK
    many = max(int(converged.sum()), 1)
    ratio = _least_polynomial(
        values, torch.where(converged, weight * leak * math.sqrt(many), weight), point, space.steps
    )
    rest = (
        float(torch.linalg.vector_norm((ratio * weight)[~converged]))
        + float((ratio * weight * leak)[converged].sum())
        + float(torch.linalg.vector_norm(rounding * (1.0 + ratio) / distance * weight))
    )
    return 1.001 * rest < floor  # 0.001 for what small numbers and bases are off by


def is_drowned(point: float, space: Space) -> bool:
    """Say whether rounding alone exceeds what a proof at `point` allows, above all Ritz values.

    More steps make every other term small, and leave this one about as it is.
    """
    ritz = space.ritz
    weight = torch.linalg.vector_norm(ritz.start[:, : space.random], dim=1)
    share = space.rounding(point) / (ritz.values - point).abs()
    return not float(torch.linalg.vector_norm(share * weight)) < gaussian_floor(space.random, 0)


def _least_polynomial(
    nodes: Float[Tensor, " size"], weight: Float[Tensor, " size"], point: float, steps: int
) -> Float[Tensor, " size"]:
    """Return |p(node) / p(point)| of the kernel polynomial of degree below `steps`.

    Its zeros lie among the nodes, so that beyond them |p| grows with the distance.
    """
    basis = [weight / torch.linalg.vector_norm(weight)]
    places = torch.cat([nodes.new_tensor([point]), nodes])
    at = [torch.zeros_like(places), torch.ones_like(places)]
    spread, back = float(nodes.abs().max()), 0.0
    for _ in range(steps - 1):
        image, known = nodes * basis[-1], torch.stack(basis)
        centre = float(image @ basis[-1])
        for _ in range(2):
            image = image - known.mT @ (known @ image)
        forward = float(torch.linalg.vector_norm(image))
        if forward <= 1e-14 * spread:
            break
        basis.append(image / forward)
        at.append(((places - centre) * at[-1] - back * at[-2]) / forward)
        back = forward
    combined = torch.stack([value * value[0] for value in at]).sum(dim=0)
    return combined[1:].abs() / combined[0]
