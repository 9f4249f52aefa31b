"""Whether the model matches its proxy: the largest singular values of each role, by width."""

from collections.abc import Iterator

from spectra.numbers import apart
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.rule import Rule, Setting, SettingsOf


def unmatched(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield roles whose largest singular value is not the proxy's."""
    if facts.proxy is None or settings_of("") is None:
        return
    for found in facts.proxy["matching"]:
        if found["ok"] is False:
            role, ratio = str(found["role"]), float(found["ratio"])
            yield Breach(
                f"{role}: median sigma_max is {apart(ratio, 1.0)} times that of the proxy",
                value=ratio,
                limit=1.0,
                subject=role,
            )


RULES = (
    Rule(
        code="SPC401",
        name="width-matching",
        severity="warning",
        needs="proxy",
        summary="the largest singular values do not match those of a proxy of another width",
        why="Hyperparameters that were tuned on a narrow proxy carry over to a wide model when the "
        "largest singular values of both are alike (arXiv 2510.15262).",
        how="By role, the median of sigma_max over layers in this model over that in the proxy; "
        "1 within `tolerance`. `spectra width MODEL --against PROXY` shows the same.",
        fix="Scale weight decay by the square of the ratio, as `spectra width` advises.",
        judge=unmatched,
        settings=(
            Setting("proxy", "text", None, "the model to match", whole=True),
            Setting(
                "tolerance",
                "share",
                0.1,
                "how far the ratio may be from 1",
                whole=True,
                above=0.0,
                below=1.0,
            ),
        ),
        asked=True,
    ),
)
