"""Pictures that another package draws, and every drawer that a record names."""

from pkgutil import resolve_name

import pytest
from matplotlib.figure import Figure

from pictures import written
from spectra.errors import SpectraError, UsageError
from spectra.report import draw, kind
from spectra.report.kind import Document
from spectra.report.kinds import Kind, kinds
from spectra.report.plots.page import Arrays, page

TAILS: Document = {
    "spectra": "0.1.0",
    "command": "tails",
    "models": [{"spec": "acme/small", "resolved": "", "part": "model"}],
    "rows": [],
    "summary": {"reading": "12 tails."},
}


def draw_tails(document: Document, arrays: Arrays) -> Figure:
    return page(document, "Heads", 1.0, f"{len(arrays)} arrays.")


def known(monkeypatch: pytest.MonkeyPatch, drawer: str | None) -> None:
    others = kind.kind_of
    monkeypatch.setattr(
        kind,
        "kind_of",
        lambda name: Kind(name, name, drawer=drawer) if name == "tails" else others(name),
    )


def test_another_package_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, f"{__name__}:draw_tails")
    said = written(draw(TAILS))
    assert "Heads: small" in said
    assert "12 tails." in said
    assert "0 arrays." in said


@pytest.mark.parametrize("drawer", ["no_such_module:draw", f"{__name__}:draw_none", "1:2"])
def test_a_drawer_that_is_not_there_is_one_line(
    drawer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, drawer)
    with pytest.raises(SpectraError, match="The picture of tails cannot be drawn: ") as raised:
        draw(TAILS)
    assert drawer in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_has_no_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, None)
    with pytest.raises(UsageError) as raised:
        draw(TAILS)
    assert str(raised.value) == (
        "tails has no picture. Expected a result of compare, diff, heads, kappa, match, shared, "
        "spectrum, width."
    )


def test_every_drawer_is_there() -> None:
    assert all(callable(resolve_name(one.drawer)) for one in kinds() if one.drawer)
