"""A matrix split along its leading right singular vectors: what these hold of it, and the rest.

W, with no more columns than rows, is split along orthonormal V, about its leading right singular
vectors, into W V V^T and W' = W - W V V^T, in float64. From

    W W^T = (W V) (W V)^T + W' W'^T

the singular values of W V are lower bounds of W's, and no more of W's exceed x than V has
columns and W' has singular values above x (Weyl). The eigenvalues of W^T W are those of the two
parts to within E = ||(W V)^T W'||, which is small once V has converged.

Source:
    Horn and Johnson 2013, Matrix Analysis, section 4.3.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.counting import Space, at_most
from spectra.kernels.edge import Bracket
from spectra.kernels.entries import square_norm
from spectra.kernels.extremes import largest_near, tall_map
from spectra.kernels.inertia import eigenvalues_above, gram_error
from spectra.kernels.inverse import lower_gram
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.relation import seen
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import Stack
from spectra.kernels.streamed import Streamed

BLOCK = 64  # rows widened to float64 at a time
LOOKS = frozenset({2, 3, 4, 5, 6, 8, 10, 13, 16, 20})  # steps of a Krylov space


@dataclass(frozen=True, slots=True)
class Settings:
    """How hard to try before the next way."""

    small: int = 512  # sides up to which all singular values cost no more
    block: int = 32  # random columns of a Krylov space
    steps: int = 24
    stages: int = 4  # of splitting again, where rounding drowned small directions
    many: int = 96  # directions above the level, from which on they may be more than half
    most: float = 0.8  # of a Krylov space, above the level: it has not seen the end of them
    leak: float = 0.05  # of the level, that an unconverged direction may leave in the rest
    guess: float = 1e-6  # relative rounding of products, until it is measured
    share: float = 0.6  # of the short side, which may prove that more than half exceed
    fine: float = 1e3  # norm over the level, up to which a float32 Gram matrix is tried
    margin: float = 1e-3  # of the level's square, by which a Gram matrix may be off
    beside: int = 32  # directions that are taken out of products, and not of each row
    loud: float = 64.0  # energy over the rest's, up to which products in float32 show the rest


SETTINGS = Settings()


class Outcome(Enum):
    """What a Krylov space says about a level."""

    BELOW = auto()  # no singular value reaches it, proven
    FOUND = auto()  # some exceed it
    MANY = auto()  # all that is seen exceeds it
    OPEN = auto()


class Deflated:
    """A matrix W in two parts: along some right singular vectors, and the rest.

    The rest of a matrix that is streamed is so too: each pass takes the others out of it again.
    """

    def __init__(self, matrix: Tensor | Streamed, settings: Settings = SETTINGS) -> None:
        self.matrix, self.settings = matrix, settings
        self.of = self.rest = of = tall_map(matrix)
        self.right = torch.empty(of.shape[1], 0, dtype=torch.float64, device=of.device)
        self.values = self.seen = torch.empty(0, dtype=torch.float64)
        if isinstance(matrix, Streamed):
            self.energy = (matrix.sizes()[1] / of.scale) ** 2
        else:
            self.energy = of.energy()
        self.left = self.energy
        self.coupling = 0.0
        self._whole: Tensor | None = None
        self._gram: Tensor | None = None
        self._off = 0.0

    def search(self, level: float, *, patient: bool) -> Outcome:
        """Take directions above the level out until none is left, as far as that goes."""
        for _ in range(self.settings.stages):
            if math.sqrt(self.left) < level:
                return Outcome.BELOW
            outcome, vectors = self._explored(level, patient=patient)
            if outcome is not Outcome.FOUND:
                return outcome
            self.take(vectors, level)
        return Outcome.OPEN

    def _explored(self, level: float, *, patient: bool) -> tuple[Outcome, Tensor]:
        """Look at the rest: what of it exceeds the level, or that nothing does."""
        of, settings, block = self.rest, self.settings, self.settings.block
        most = min(settings.steps, of.shape[1] // block - 1)
        krylov = Lanczos(of.gram_matmat, gaussian(of.shape[1], block, of.device), most)
        vectors = self.right[:, :0]
        for ritz in krylov.looks(LOOKS.__contains__):
            above = int((ritz.values > level * level).sum())
            if not above:
                outcome = self._below(level, krylov, ritz)
                if outcome is not None or vectors.shape[1]:
                    return outcome or Outcome.FOUND, vectors
                continue
            self.seen = ritz.values[:above].sqrt()
            vectors = krylov.combined(ritz.coordinates[:, :above])
            if not patient and settings.many <= above > settings.most * krylov.size:
                return Outcome.MANY, vectors
            allowed = settings.leak * level * self.seen
            if bool((ritz.residual[:above] <= allowed).all()):
                return Outcome.FOUND, vectors
        if vectors.shape[1] > settings.most * krylov.size:
            return Outcome.MANY, vectors
        return (Outcome.FOUND if vectors.shape[1] else Outcome.OPEN), vectors

    def _below(self, level: float, krylov: Lanczos, ritz: Ritz) -> Outcome | None:
        """Prove that nothing of the rest reaches the level; None where more steps may help."""
        # A float32 copy of the rest is off by no more than that.
        rounding = torch.finfo(self.rest.matrix.dtype).eps / 2 * math.sqrt(self.left)
        point = max(level - rounding, 0.0) ** 2
        guess = torch.full_like(ritz.values, self.settings.guess * point)
        space = Space(ritz, krylov.block, krylov.steps, lambda _: guess)
        if at_most(0, point, space):
            measured = seen(self.rest, krylov, ritz)
            proven = at_most(0, point, space._replace(rounding=measured.rounding))
            return Outcome.BELOW if proven else None
        ratio = point / float(ritz.values[0])
        if ratio <= 1.0:
            return Outcome.OPEN
        # About how many steps prove that nothing reaches so much times the largest value.
        needed = math.log(100.0 * math.sqrt(self.of.shape[1])) / (
            2.0 * math.asinh(math.sqrt(ratio - 1.0))
        )
        return Outcome.OPEN if needed > krylov.most else None

    def take(self, vectors: Tensor, level: float) -> None:
        """Split along what was known and these vectors, as far as it exceeds the level."""
        self.right = torch.linalg.qr(torch.cat([self.right, vectors], dim=1)).Q
        turn = torch.linalg.svd(self._subtract(), full_matrices=False)
        kept = max(level, max(self.of.shape) * EPS64 * float(turn.S[0])) < turn.S
        self.values = turn.S[kept].cpu()
        if not bool(kept.all()):
            self.right = self.right @ turn.Vh[kept].mT
            self._subtract()

    def _subtract(self) -> Float[Tensor, "kept kept"]:
        """Form the rest, its energy, and how far it is from decoupled; return R of W V = Q R.

        One pass, and nothing is held that is as long as the matrix but the rest.
        """
        lines = self.right.mT.contiguous()
        stack, coupling = Stack(len(lines), lines.device), torch.zeros_like(lines)
        rest, tall = self._room(lines)
        thin = tall is None and len(lines) <= self.settings.beside
        image = lines.new_empty(len(lines) if thin else 0, self.of.shape[0])
        left = 0.0
        for here, block in self.blocks():
            part = lines @ block.mT
            stack.add(part)
            block.addmm_(part.mT, lines, alpha=-1.0)
            coupling.addmm_(part, block)
            left += square_norm(block)
            if tall is not None:
                tall[here] = block
            if thin:
                image[:, here] = part
        self.left, self.coupling = left, float(torch.linalg.vector_norm(coupling))
        norm = 1.001 * math.sqrt(left)
        self.rest = replace(self.of, matrix=rest, scale=1.0, norm=norm)
        if thin and self.energy <= self.settings.loud * left:
            self.rest = self._beside(image.mul_(-self.of.scale).mT, lines)
        self._gram = None
        return stack.triangle()

    def _room(self, lines: Tensor) -> tuple[Tensor | Streamed, Tensor | None]:
        """Return what the rest will be in, and its long side as rows: where it has to be filled."""
        given = self.of.matrix
        if isinstance(given, Tensor):
            kept = self.rest.matrix
            rest = kept if self.rest is not self.of and isinstance(kept, Tensor) else None
            rest = torch.empty_like(given) if rest is None else rest
            return rest, rest.mT if self.of.turned else rest
        source, scale = self.of.parts[0], self.of.scale

        def rest_of(here: slice) -> Tensor:
            block = source[here].double().mul_(1.0 / scale)
            return block.addmm_(block @ lines.mT, lines, alpha=-1.0).to(given.dtype)

        streamed = replace(given, make=rest_of, turned=False, known=None)
        return streamed.mT if self.of.turned else streamed, None

    def _beside(self, image: Tensor, lines: Tensor) -> LinearMap:
        """Return W - W V V^T as W and an update, of -W V and V^T: a pass forms no rest of rows."""
        left, right = (lines.mT, image.mT) if self.of.turned else (image, lines)
        return replace(self.of, left=left, right=right, norm=2.0 * self.of.norm)

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "some short"]]]:
        """Yield rows of the long side over scale, in float64, always in the same memory."""
        return self.of.panels(self.of.room(BLOCK, torch.float64))

    def gram(self) -> Float[Tensor, "short short"]:
        """Return W^T W by its lower half, in the precision of W, from one pass."""
        if self._whole is None:
            single = self.of.matrix.dtype == torch.float32
            self._whole = lower_gram(self.of, torch.float32 if single else torch.float64)
        return self._whole

    def largest(self) -> Bracket | None:
        """Enclose sigma_max, where W^T W is there to iterate with."""
        if self._whole is None:
            return None
        whole = self._whole.tril().add_(self._whole.tril(-1).mT)
        return largest_near(self.of, whole)

    def more_than_half(self, level: float) -> int | None:
        """Return how many exceed the level, as some of the short side prove, if over half do."""
        short = self.of.shape[1]
        if self.energy <= short / 2.0 * level**2:
            return None
        tall, share = self.of.parts[0], self.settings.share
        if isinstance(tall, Streamed):
            whole = self.gram()
            chosen = _largest(whole.diagonal(), share)
            of = replace(self.of, matrix=tall.columns(chosen), turned=False)
            gram = whole[chosen][:, chosen]
        else:
            some = tall[:, _largest(torch.linalg.vector_norm(tall, dim=0), share)]
            of = replace(self.of, matrix=some, turned=False)
            gram = lower_gram(of, torch.float32 if some.dtype == torch.float32 else torch.float64)
        found = eigenvalues_above(gram, level**2 + gram_error(gram, of))
        return found if found is not None and 2 * found > short else None

    def count(self, level: float) -> int | None:
        """Return how many exceed a level by inertia; None where rounding hides it."""
        point = level * level
        if self._gram is None:
            coarse = math.sqrt(self.left) < self.settings.fine * level
            coarse = coarse and self.rest.matrix.dtype == torch.float32
            self._gram = lower_gram(self.rest, torch.float32 if coarse else torch.float64)
            self._off = gram_error(self._gram, self.rest) + self.coupling
            self.rest = self.of  # the other's memory is free for factors
        if self._off > self.settings.margin * point:
            return None
        found = eigenvalues_above(self._gram, point)
        return None if found is None else found + int((self.values > level).sum())


def _largest(sizes: Tensor, share: float) -> Tensor:
    """Return the places of a share of all, the largest, in order."""
    return sizes.topk(math.ceil(share * len(sizes))).indices.sort().values
