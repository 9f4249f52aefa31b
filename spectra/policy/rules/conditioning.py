"""How well conditioned the matrices are: kappa, singular ones, the largest singular value."""

from collections.abc import Iterator
from itertools import chain

from spectra.numbers import number, whole
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.rule import Rule, Setting, Settings, SettingsOf
from spectra.policy.rules.places import is_of_positions
from spectra.policy.threshold import Threshold, limits

SQUARE = 0.9  # ratio of the sides, above which a random matrix may have any kappa

_EXCESS = Threshold("kappa_excess", "kappa_excess", "above")


def excess(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices whose kappa stands out; squares by a limit of their own.

    The kappa of a Gaussian square has a heavy tail: P(> F times the median) = 2 / (3.68 F)
    (Edelman 1988), so that chance alone takes one square of 550 past 300 times, while of 2,000
    rectangles whose sides were as 9 to 10 none passed 2.3 times.
    """

    def of_shape(square: bool) -> SettingsOf:
        """Return settings for squares alone, or for all others."""

        def found(name: str) -> Settings | None:
            settings, subject = settings_of(name), facts.subjects[name]
            ratio = min(subject.rows, subject.cols) / max(subject.rows, subject.cols)
            if settings is None or (ratio > SQUARE) is not square:
                return None
            return {**settings, "outlier": settings["squares"]} if square else settings

        return found

    yield from chain(_EXCESS(facts, of_shape(square=True)), _EXCESS(facts, of_shape(square=False)))


def singular(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices whose smallest singular value is exactly 0; zero rows have a rule."""
    for subject in facts.matrices():
        zero = subject.number("sigma_min") == 0.0 and not (
            subject.values.get("zero_rows")
            or subject.values.get("zero_cols")
            or is_of_positions(subject)
        )
        if zero and settings_of(subject.name) is not None:
            rank, bound = subject.number("resolved_rank"), subject.number("rank_bound")
            most = min(subject.rows, subject.cols) if bound is None else int(bound)
            text = f"the smallest of its {most:,} singular values is 0"
            if rank is not None and rank < most:
                text += f" (resolved rank {whole(rank)})"
            elif largest := subject.number("sigma_max"):  # full rank, once its rows are balanced
                text += f" beside the largest, {number(largest)}: too far apart for float64"
            yield Breach(text, subject.name, 0.0, 0.0)


RULES = (
    Rule(
        code="SPC201",
        name="condition-number",
        severity="error",
        needs="spectrum",
        summary="kappa is higher than a policy allows",
        why="A matrix of high condition number loses digits wherever it is inverted or quantised, "
        "and one that became worse since the release before is worth a look.",
        how="kappa = sigma_max / sigma_min, from all singular values. Squares have thousands by "
        "their shape alone: set limits by role, or take SPC202.",
        fix="`spectra kappa MODEL -v` shows all; `max-regression` compares with the baseline.",
        judge=Threshold("kappa", "kappa", "above"),
        settings=limits("above"),
        asked=True,
    ),
    Rule(
        code="SPC202",
        name="condition-excess",
        severity="warning",
        needs="spectrum",
        summary="kappa, over what its shape alone gives, stands out of its like",
        why="One matrix conditioned far worse than its like has lost a direction: pruned, "
        "overwritten in part, or damaged by a conversion.",
        how="kappa_excess = kappa over that of a Gaussian matrix of the same shape; compared with "
        "the median of its like (the same name in other layers, or the same role in one stack) and "
        "their spread. Squares, whose kappa is high by chance now and then, have a limit of their "
        "own.",
        fix="`spectra spectrum MODEL --include NAME --plot x.png` shows where its spectrum ends.",
        judge=excess,
        settings=(
            *limits("above", outlier=30.0),
            Setting(
                "squares",
                "number",
                1e5,
                "`outlier` of matrices that are nearly square",
                limit=True,
                above=1.0,
            ),
        ),
    ),
    Rule(
        code="SPC203",
        name="singular",
        severity="warning",
        needs="spectrum",
        summary="the smallest singular value is exactly 0",
        why="A trained matrix of full rank is never exactly singular; one that is was cut, masked "
        "or padded.",
        how="sigma_min = 0 within the rounding floor of float64; of tables of positions, which may "
        "be sines, it is not judged.",
        fix="If it is meant (a pruned or padded matrix), add an [[ignore]] with the reason.",
        judge=singular,
    ),
    Rule(
        code="SPC204",
        name="sigma-max-jump",
        severity="error",
        needs="spectrum",
        summary="the largest singular value jumped",
        why="The largest singular value bounds how much a layer can amplify. One that stands far "
        "off its like, or grew since the release before, goes with loss spikes and overflow.",
        how="sigma_max against the baseline's, and against the median of its like and their "
        "spread.",
        fix="Look at the matrix beside its neighbours: "
        "`spectra spectrum MODEL --role ROLE --plot x.png`.",
        judge=Threshold("sigma_max", "sigma_max", "above"),
        settings=limits("above", regression=1.0, outlier=10.0),
    ),
)
