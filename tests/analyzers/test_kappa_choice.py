"""Early stopping decides as if every number were known, whatever is asked for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spectra
from analyzers.subjects import view_of
from examples import write_model
from spectra.analyzers import Kappa, Row
from spectra.analyzers.analyzer import Round
from spectra.analyzers.choice import amount
from spectra.analyzers.kappa import KEYS, Floor
from spectra.analyzers.row import Value
from spectra.kernels.gaussian import kappa_null
from spectra.matrices import View
from spectra.words import By, Status

ROLES = ("q_proj", "up_proj", "down_proj")
SHAPES = ((4, 4), (4, 5), (8, 4), (4, 12), (16, 16))
SETTINGS = [
    {"by": by, "per": per, "rank_by": rank_by}
    for by, per, rank_by in product(
        ("matrices", "params"), ("global", "role"), ("kappa", "kappa_excess")
    )
]


@dataclass(frozen=True)
class Made:
    """One matrix that pretends to be measured: the truth, and how loose what is proven is."""

    view: View
    kappa: float | None  # None: singular
    floor: float  # share of the true value that a few products prove
    low: float
    high: float
    small: bool  # measured in full at once
    finite: bool = True
    guess: float = 0.0  # where between the two the estimate lies

    def measured(self, analyzer: object) -> Row:
        """The row that a round would give."""
        values: dict[str, Value] = dict.fromkeys(KEYS)
        if not self.finite:
            return Row(self.view.place(), "non-finite", "NaN", values)
        status: Status = "singular" if self.kappa is None else "ok"
        if isinstance(analyzer, Floor) and not self.small:
            low = 1e3 * self.floor if self.kappa is None else self.kappa * self.floor
            return Row(self.view.place(), "outside", None, values | {"kappa_low": low})
        assert isinstance(analyzer, Floor | Kappa)
        if self.kappa is None:
            return Row(self.view.place(), status, None, values | {"decided_by": "exact"})
        exact = self.small or (isinstance(analyzer, Kappa) and analyzer.exact)
        low, high = (self.kappa * (1.0 if exact else end) for end in (self.low, self.high))
        estimate = min(max(low + self.guess * (high - low), low), high)
        null = kappa_null(self.view.rows, self.view.cols)
        known: dict[str, Value] = {
            "kappa": estimate, "kappa_low": low, "kappa_high": high,
            "kappa_excess": estimate / null, "decided_by": "exact" if exact else "bound",
        }  # fmt: skip
        return Row(self.view.place(), status, None, values | known)


def view(index: int, role: str, shape: tuple[int, int]) -> View:
    return view_of(f"layers.{index}.{role}.weight", *shape)


@st.composite
def models(draw: st.DrawFn) -> list[Made]:
    """Few values, so that many tie; loose bounds, so that many overlap."""
    kappas = st.one_of(st.none(), st.sampled_from([1.5, 2.0, 2.5, 3.0, 9.0]), st.floats(1.0, 20.0))
    made = st.builds(
        lambda role, shape, *rest: (role, shape, rest),
        st.sampled_from(ROLES),
        st.sampled_from(SHAPES),
        kappas,
        st.sampled_from([0.1, 0.5, 0.9, 1.0]),
        st.sampled_from([0.7, 0.99, 1.0]),
        st.sampled_from([1.0, 1.01, 1.4]),
        st.booleans(),
        st.sampled_from([True] * 9 + [False]),
        st.sampled_from([0.0, 0.5, 1.0]),
    )
    found = draw(st.lists(made, min_size=1, max_size=14))
    return [Made(view(i, role, shape), *rest) for i, (role, shape, rest) in enumerate(found)]


def naive(model: Sequence[Made], select: str, by: str, per: str, rank_by: str) -> Iterator[str]:
    """The definition, from the true numbers."""
    for group in {made.view.role.kind if per == "role" else "" for made in model}:
        rows = []
        for made in model:
            if made.finite and group in ("", made.view.role.kind):
                null = kappa_null(made.view.rows, made.view.cols)
                scale = null if rank_by == "kappa_excess" else 1.0
                value = float("inf") if made.kappa is None else made.kappa / scale
                size = made.view.rows * made.view.cols if by == "params" else 1
                rows.append((value, made.view.name, size))
        left = amount(select, sum(size for _, _, size in rows))
        taken = []
        for place, (value, name, size) in enumerate(sorted(rows)):
            if place and size > left:
                break
            left -= size
            taken.append((value, name))
        if len(taken) < len(rows):  # nothing tells which of the singular ones
            taken = [one for one in taken if math.isfinite(one[0])]
        yield from (name for _, name in taken)


def run(model: Sequence[Made], kappa: Kappa) -> tuple[dict[str, Row], list[int]]:
    """All rounds; how many matrices each took."""
    rows: dict[str, Row] = {}
    sizes = []
    places = [made.view.place() for made in model]
    while (part := kappa.following(list(rows.values()), places)) is not None:
        names = part.matrices
        assert names is None or names
        taken = [made for made in model if names is None or made.view.name in names]
        fresh = {made.view.name: made.measured(part.analyzer) for made in taken}
        assert all(rows.get(name) != row for name, row in fresh.items())  # none twice
        rows |= fresh
        sizes.append(len(taken))
    return rows, sizes


@settings(max_examples=300)
@given(
    models(),
    st.sampled_from(SETTINGS),
    st.sampled_from(["1", "2", "3", "40", "100", "5%", "20%", "35%", "50%", "80%", "100%"]),
)
def test_the_selection_is_that_of_the_true_numbers(
    model: list[Made], words: dict[str, Any], select: str
) -> None:
    kappa = Kappa(select=select, **words)
    rows, _ = run(model, kappa)
    marked, summary = kappa.conclude(list(rows.values()))
    expected = set(naive(model, select, **words))
    assert set(summary["selected"]) == expected  # type: ignore[call-overload]
    assert {row.matrix for row in marked if row.values["selected"]} == expected
    assert all(rows[name].status != "outside" for name in expected)


@given(models(), st.sampled_from(SETTINGS), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(
    model: list[Made], words: dict[str, Any], shuffle: Random
) -> None:
    kappa = Kappa(select="30%", **words)
    rows, _ = run(model, kappa)
    other = list(model)
    shuffle.shuffle(other)
    again, _ = run(other, kappa)
    assert again == rows
    assert kappa.conclude(list(rows.values()))[1] == kappa.conclude(list(again.values()))[1]


def spread(count: int, shape: tuple[int, int] = (8, 4), role: str = "up_proj") -> list[Made]:
    """Matrices of one role whose kappas are well apart, with sharp bounds."""
    return [Made(view(i, role, shape), 1.1**i, 0.95, 0.999, 1.001, False) for i in range(count)]


@pytest.mark.parametrize("words", SETTINGS, ids=lambda words: "-".join(words.values()))
def test_no_more_is_measured_than_the_selection_needs(words: dict[str, Any]) -> None:
    rows, sizes = run(spread(60), Kappa(select="10%", **words))
    # As all are of one size, none that comes next could fit.
    assert sizes == [60, 6]
    assert sum(row.status == "outside" for row in rows.values()) == 54


@pytest.mark.parametrize("words", SETTINGS, ids=lambda words: "-".join(words.values()))
def test_a_few_rounds_suffice(words: dict[str, Any]) -> None:
    """Bounds of which many overlap are not measured one after the other."""
    source = Random(3)  # noqa: S311 - not secret
    model = [
        Made(view(i, source.choice(ROLES), source.choice(SHAPES)), 10 ** source.uniform(0.1, 4),
             source.uniform(0.6, 0.95), 0.999, 1.001, False)
        for i in range(500)
    ]  # fmt: skip
    rows, sizes = run(model, Kappa(select="10%", **words))
    assert len(sizes) <= 5
    assert sum(row.status == "outside" for row in rows.values()) > 250


def test_a_singular_matrix_does_not_have_all_others_measured() -> None:
    """Its floor may be the lowest of all; then it is measured first."""
    model = [*spread(60), Made(view(99, "up_proj", (8, 4)), None, 0.0, 1, 1, False)]
    rows, sizes = run(model, Kappa(select="1"))
    assert sizes == [61, 1, 1]
    assert rows["layers.99.up_proj.weight"].status == "singular"


def test_with_parameters_what_does_not_fit_is_settled_too() -> None:
    """Six of 32 fit in 207 of 2,080; what comes seventh must be known, for 16 would fit."""
    model = [*spread(60), *(Made(view(i, "q_proj", (4, 4)), 1e4, 0.9, 1, 1, False)
                            for i in range(60, 70))]  # fmt: skip
    rows, sizes = run(model, Kappa(select="10%", by="params"))
    assert sizes == [70, 7]
    assert rows["layers.6.up_proj.weight"].status == "ok"


def test_equal_twins_behind_the_cut_of_parameters_are_decomposed_only_where_one_fits() -> None:
    first = [Made(view(0, "up_proj", (8, 4)), 2.0, 0.9, 0.99, 1.01, False)]
    far = [Made(view(i, "up_proj", (16, 16)), 50.0, 0.9, 0.99, 1.01, False) for i in range(3, 9)]
    for shape, expected in (((16, 16), 0), ((4, 4), 2)):
        twins = [Made(view(1, "q_proj", (8, 8)), 4.0, 0.9, 0.99, 1.01, False),
                 Made(view(2, "q_proj", shape), 4.0, 0.9, 0.99, 1.01, False)]  # fmt: skip
        rows, _ = run([*first, *twins, *far], Kappa(select="60", by="params"))
        assert sum(row.values["decided_by"] == "exact" for row in rows.values()) == expected


@pytest.mark.parametrize("by", ["matrices", "params"])
@pytest.mark.parametrize(
    ("low", "high", "guess", "small"),
    [
        pytest.param(0.9, 1.0, 0.0, 0, id="the taken one's bound touches"),
        pytest.param(1.0, 1.1, 1.0, 1, id="the other's bound touches"),
    ],
)
def test_intervals_that_touch_are_decided_in_full(
    low: float, high: float, guess: float, small: int, by: By
) -> None:
    """Both are 3.0, so the name decides; the estimates have it the other way round."""
    twins = [Made(view(i, "q_proj", (8, 8)), 3.0, 0.5, low, high, i == small, guess=guess)
             for i in range(2)]  # fmt: skip
    far = [Made(view(i, "q_proj", (8, 8)), 99.0, 0.9, 1, 1, False) for i in range(2, 9)]
    kappa = Kappa(select="1" if by == "matrices" else "64", by=by)
    rows, _ = run([*twins, *far], kappa)
    assert kappa.conclude(list(rows.values()))[1]["selected"] == ["layers.0.q_proj.weight"]


def test_one_that_fits_and_touches_the_first_behind_the_cut_is_decided_in_full() -> None:
    first = Made(view(0, "q_proj", (4, 4)), 2.0, 0.9, 1, 1, False)
    fits = Made(view(1, "q_proj", (4, 4)), 3.0, 0.5, 1.0, 1.1, False, guess=1.0)
    too_large = Made(view(2, "q_proj", (16, 16)), 3.0, 0.9, 1, 1, True)
    far = [Made(view(i, "q_proj", (8, 8)), 99.0, 0.9, 1, 1, False) for i in range(3, 9)]
    kappa = Kappa(select="40", by="params")
    rows, _ = run([first, fits, too_large, *far], kappa)
    assert kappa.conclude(list(rows.values()))[1]["selected"] == [
        "layers.0.q_proj.weight", "layers.1.q_proj.weight",
    ]  # fmt: skip


LAYER = {"q_proj": (4096, 4096), "k_proj": (4096, 4096), "v_proj": (4096, 4096),
         "o_proj": (4096, 4096), "gate_proj": (11008, 4096), "up_proj": (11008, 4096),
         "down_proj": (4096, 11008)}  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "select", "words", "screened"),
    [
        (32, "10%", {}, True),
        (32, "90%", {}, False),
        (32, "22", {"rank_by": "kappa_excess"}, True),
        (32, "220", {}, False),
        (32, "10%", {"per": "role"}, True),
        (32, "30", {"per": "role"}, False),
        (32, "10%", {"by": "params"}, True),
        (32, "6000000000", {"by": "params"}, False),
        (1, "15%", {}, True),  # a rectangle is left open, and no square
        (1, "15%", {"rank_by": "kappa_excess"}, True),
        (1, "1", {"per": "role"}, False),  # all are selected
        (1, "70%", {"rank_by": "kappa_excess"}, False),
    ],
)
def test_bounds_come_first_where_they_save_more_than_they_cost(
    layers: int, select: str, words: dict[str, Any], screened: bool
) -> None:
    places = [view(i, role, shape).place() for i in range(layers) for role, shape in LAYER.items()]
    kappa = Kappa(select=select, **words)
    first = kappa.following([], places)
    assert first is not None
    assert first.matrices is None
    assert isinstance(first.analyzer, Floor) is screened
    shares = kappa.likely(first, places)
    assert set(shares) == ({place.matrix for place in places} if screened else set())
    assert all(0.0 <= share <= 1.0 for share in shares.values())


def test_what_is_likely_measured_is_of_the_shapes_that_rank_first() -> None:
    """A rectangle's own kappa is lower than a square's: of 96 rectangles 22 are selected."""
    places = [view(i, role, shape).place() for i in range(32) for role, shape in LAYER.items()]
    first = Round(Floor())
    shares = Kappa(select="10%").likely(first, places)
    likely = {place.role for place in places if shares[place.matrix] > 0.2}
    assert likely == {"mlp.gate", "mlp.up", "mlp.down"}
    assert sum(shares.values()) == pytest.approx(2 * 22 + 2 + 0.15 * 128)
    alike = Kappa(select="10%", rank_by="kappa_excess").likely(first, places)
    assert list(alike.values()) == [pytest.approx((2 * 22 + 2) / 224)] * 224


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with sides over 512, for which bounds are meant."""
    source = torch.Generator().manual_seed(7)
    shapes = {"q_proj": (530, 530), "up_proj": (1100, 520)}
    tensors = {}
    for role, (rows, cols) in shapes.items():
        bases = (torch.randn(n, min(rows, cols), generator=source).double() for n in (rows, cols))
        left, right = (torch.linalg.qr(basis).Q for basis in bases)
        for i in range(12):
            end = -0.2 * (i + 1) if role == "up_proj" else -0.3 * (i + 1)
            sigma = torch.logspace(0, end, min(rows, cols), dtype=torch.float64)
            turned = left.roll(i, 0) * sigma  # other vectors for each, of one decomposition
            tensors[f"model.layers.{i}.x.{role}.weight"] = (turned @ right.mT).float()
    return write_model(tmp_path_factory.mktemp("large"), tensors)


@pytest.fixture(scope="module")
def decomposed(large: Path) -> Sequence[Row]:
    return spectra.kappa(large, exact=True).rows


@pytest.mark.parametrize("words", [SETTINGS[0], SETTINGS[3], SETTINGS[5]], ids=str)
def test_large_matrices_are_selected_as_if_all_were_decomposed(
    words: dict[str, Any], large: Path, decomposed: Sequence[Row]
) -> None:
    early = spectra.kappa(large, select="10%", **words)
    _, exact = Kappa(select="10%", exact=True, **words).conclude(decomposed)
    assert early.summary["selected"] == exact["selected"]
    assert early.summary["outside"] > 0


def _measured(*shapes: tuple[str, int, int]) -> list[Row]:
    views = [
        view_of(f"model.layers.{number}.self_attn.{name}.weight", rows, cols)
        for number, (name, rows, cols) in enumerate(shapes)
    ]
    values = dict.fromkeys(KEYS) | {"kappa": 2.0, "decided_by": "exact"}
    return [Row(view.place(), "ok", None, values) for view in views]


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"select": "3"}, ""),
        ({"select": "100%"}, ""),
        ({"select": "1%"}, ""),
        ({"select": "4"}, "--select 4 is more than there is: 3 candidates; all selected."),
        ({"select": "48", "by": "params"}, ""),
        (
            {"select": "49", "by": "params"},
            "--select 49 --by params is more than there is: 48 parameters; all selected.",
        ),
        (
            {"select": "9", "by": "params"},
            "--select 9 --by params is less than one matrix, and one is selected: a has 16.",
        ),
        (
            {"select": "2", "per": "role"},
            "--select 2 is more than there is: 1 candidate of attn.k; all of these selected.",
        ),
    ],
    ids=str,
)
def test_a_number_that_goes_past_what_is_there_is_told(settings: dict[str, Any], note: str) -> None:
    rows = _measured(("q_proj", 4, 4), ("q_proj", 4, 4), ("k_proj", 4, 4))
    _, summary = Kappa(**settings).conclude(rows)
    told = note.replace("a has", "model.layers.0.self_attn.q_proj.weight has")
    assert summary.get("notes", []) == ([told] if note else [])
