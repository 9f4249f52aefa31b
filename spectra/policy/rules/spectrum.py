"""What the whole spectrum says: rank collapse, the power law's exponent, spikes."""

from collections.abc import Iterator
from itertools import chain

from spectra.numbers import percent, whole
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.peers import UNLIKE
from spectra.policy.rule import Rule, Setting, Settings, SettingsOf
from spectra.policy.rules.places import is_of_positions
from spectra.policy.threshold import Threshold, limits

RANK = 0.5  # resolved rank, likewise; sines of positions have as little as a fifth
LEAST = 0.1  # effective rank, as a share, of a matrix whose role says what it does

_LOW = Threshold("alpha", "alpha", "below")
_HIGH = Threshold("alpha", "alpha", "above")
_EFFECTIVE = Threshold("effective_share", "effective rank", "below", percent)
_RESOLVED = Threshold("resolved_share", "rank above rounding", "below", percent)


def collapse(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices whose rank fell: exactly, or in effect; all-zero ones have a rule."""

    def floor(name: str) -> dict[str, object] | None:
        """Return the settings as those of a lower limit of the resolved rank."""
        settings = settings_of(name)
        smooth = is_of_positions(facts.subjects[name])
        if settings is None or (smooth and settings["rank"] == RANK):
            return None
        return {"min": settings["rank"]}

    def in_effect(name: str) -> Settings | None:
        """Return the settings; a table of positions or decays may be smooth, by its nature."""
        settings = settings_of(name)
        if settings is None or settings["min"] != LEAST:
            return settings
        return {**settings, "min": None} if facts.subjects[name].role in UNLIKE else settings

    told: set[str | None] = {one.name for one in facts.matrices() if one.number("sigma_max") == 0.0}
    for breach in chain(_RESOLVED(facts, floor), _EFFECTIVE(facts, in_effect)):
        if breach.matrix not in told:
            told.add(breach.matrix)
            yield breach


def alpha(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices whose alpha is outside its range."""

    def low(name: str) -> dict[str, object] | None:
        """Return the settings that hold downwards; `warn`, `error` and `outlier` hold upwards."""
        settings = settings_of(name)
        if settings is None:
            return None
        return {key: settings[key] for key in ("min", "max-regression")}

    yield from chain(_LOW(facts, low), _HIGH(facts, settings_of))


RULES = (
    Rule(
        code="SPC301",
        name="rank-collapse",
        severity="error",
        needs="spectrum",
        summary="a matrix has lost most of its rank",
        why="A matrix of which a few directions are left passes on a few directions of what it is "
        "given: the layer is all but dead, though every number in it is fine.",
        how="resolved_rank, the directions that rounding of the stored values cannot have made, "
        "over min(m, n) below `rank`; or the effective rank, exp(entropy of sigma), over min(m, n) "
        "far below the median of its like or below `min`; embeddings, convolutions and matrices "
        "without a role may be smooth, and have no `min` by default; tables of positions, which "
        "may be sines, have no `rank` either. Of a matrix that is stored as two factors it is over "
        "the rank that these leave room for.",
        fix="Take the matrix from an earlier checkpoint. If it was compressed on purpose, add an "
        "[[ignore]] with the reason.",
        judge=collapse,
        settings=(
            Setting(
                "rank",
                "share",
                RANK,
                "least resolved rank, as a share of the full one",
                limit=True,
                most=1.0,
            ),
            *limits("below", absolute=LEAST, outlier=3.0),
        ),
    ),
    Rule(
        code="SPC302",
        name="alpha-range",
        severity="warning",
        needs="spectrum",
        summary="the power law's exponent is outside a policy's range",
        why="By heavy-tailed self-regularisation (arXiv 1810.01075) well trained layers have alpha "
        "between about 2 and 6. Small models and single layers stray from it, so that no range "
        "holds by default.",
        how="alpha of the power law fitted to the tail of sigma^2: maximum likelihood, cut by the "
        "smallest Kolmogorov-Smirnov distance.",
        fix="Compare with the release before rather than with the range: `max-regression`.",
        judge=alpha,
        settings=(Setting("min", "number", None, "least alpha"), *limits("above")),
        asked=True,
    ),
    Rule(
        code="SPC303",
        name="spikes",
        severity="warning",
        needs="spectrum",
        summary="more singular values stand out of the noise than a policy allows",
        why="Spikes are directions stronger than noise of the same scale. Many more of them than "
        "in the release before is a change that should be known.",
        how="spikes: singular values above the Marchenko-Pastur edge of noise of the same size, by "
        "more than noise scatters, and not made by single entries or rows.",
        fix="`spectra spectrum MODEL --plot x.png` shows the edge and what lies above.",
        judge=Threshold("spikes", "values past the noise edge", "above", whole),
        settings=limits("above"),
        asked=True,
    ),
)
