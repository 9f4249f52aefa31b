"""How learning rate and weight decay follow the width d (arXiv 2510.15262).

Matrices: eta_2 ~ 1/d, with lambda_2 ~ sqrt(d) ("rule") or constant ("fixed"). Embedding and norms:
eta_1 constant, lambda_1 = 0. The head too has one dimension that grows; its eta is ~ 1/d, which
under Adam is muP's output multiplier 1/d with a constant eta (arXiv 2203.03466), and its
lambda is 0.
"""

import math
from dataclasses import dataclass

RULES = ("rule", "fixed")
PROXY = 64  # the width at which both rules agree
ETA = 8e-3  # of matrices and the head at PROXY
LAMBDA = 2.0  # of matrices at PROXY
ETA_VECTOR = 2e-3  # of embedding and norms at every width


@dataclass(frozen=True, slots=True)
class Setting:
    """One model's optimiser: eta and lambda of its matrices."""

    rule: str
    width: int
    eta: float
    decay: float

    @property
    def name(self) -> str:
        """The model's folder."""
        return f"{self.rule}-d{self.width}"

    @property
    def tau(self) -> float:
        """Steps in which decay alone shrinks the weights e-fold."""
        return 1 / (self.eta * self.decay)

    @property
    def scale(self) -> float:
        """sqrt(eta / lambda): the law's unit of sigma_1."""
        return math.sqrt(self.eta / self.decay)


def setting(rule: str, width: int, eta: float = ETA, decay: float = LAMBDA) -> Setting:
    """Return the rule's setting at a width, from eta and lambda at the proxy width."""
    ratio = width / PROXY
    return Setting(rule, width, eta / ratio, decay * (math.sqrt(ratio) if rule == "rule" else 1.0))
