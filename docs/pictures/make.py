"""Make the pictures and the table of typical values: `python docs/pictures/make.py`.

Two real models and a real adapter, as `make demo` has them, and the family that
`python -m benchmarks.width` trained. The same bytes from run to run on one machine.
"""

import changes
import groups
import heads
import tails
from measure import fine_tunes, heads_of_both, measure, update, weights, write_typical

import families
import matrices


def main() -> None:
    """Make all."""
    results = measure()
    write_typical(results)
    spectrum, smollm2, first, second, diff = results
    stored = weights()
    matrices.sigma(stored)
    matrices.kappa((spectrum, smollm2))
    matrices.excess((first, second))
    matrices.stable_rank(stored)
    matrices.effective_rank(stored)
    matrices.energy_rank(stored)
    matrices.numerical_rank(stored, update(matrices.SQUARE))
    matrices.alpha(stored, spectrum)
    matrices.noise_edge(stored, spectrum)
    tails.alternatives(stored)
    tails.shuffled(stored)
    tails.snr(stored)
    tails.detx(stored)
    groups.dct(stored, update(matrices.SQUARE))
    groups.sharing(stored)
    groups.matched()
    changes.delta(diff)
    changes.delta_rank(stored, update(changes.LAYER))
    changes.intruders(diff)
    changes.null_cos()
    changes.overlap(diff)
    changes.frame(stored, update(matrices.SQUARE))
    together, course = fine_tunes()
    changes.cosine(together)
    changes.drift(course)
    own, other = heads_of_both()
    heads.copying(own, other)
    heads.tokens()
    heads.maps(own)
    heads.composition(own)
    families.slope()
    families.matching()
    families.trend()


if __name__ == "__main__":
    main()
