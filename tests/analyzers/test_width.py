"""Scaling with width: planted laws, scipy, LAPACK, and by hand."""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from analyzers.subjects import labelled, matrix_of, row_of, view_of
from spectra.analyzers import Row, Width
from spectra.analyzers.width import Member
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.work import singular_values_work

MODULES = {
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}  # fmt: skip
Sigma = Callable[[str, int, int], float]  # of a role, a layer and a width


def row(model: str, width: int, name: str, sigma: float | None) -> Row:
    """A row as measured; without a sigma one that holds NaN."""
    values = dict.fromkeys(Width.keys, sigma)
    labels: dict[str, Any] = {"model": model, "width": width}
    return Row(view_of(name, width, width).place(labels), "non-finite" if sigma is None else "ok",
               "NaN" if sigma is None else None, values)  # fmt: skip


def rows_of(
    widths: Mapping[str, int],
    sigma: Sigma,
    layers: int | Sequence[int] = 6,
    roles: Sequence[str] = tuple(MODULES),
) -> list[Row]:
    """Rows of several models by their names."""
    depths = [layers] * len(widths) if isinstance(layers, int) else layers
    return [
        row(model, width, f"model.layers.{i}.{MODULES[role]}.weight", sigma(role, i, width))
        for (model, width), depth in zip(widths.items(), depths, strict=True)
        for i in range(depth)
        for role in roles
    ]


def planted(power: float, noise: float = 0.0, seed: int = 0) -> Sigma:
    """sigma = c_l d^power with a level of every layer."""
    source = random.Random(seed)  # noqa: S311 - no secret
    levels = {(role, i): source.gauss(0.0, 0.4) for role in MODULES for i in range(64)}
    return lambda role, i, width: math.exp(
        levels[role, i] + power * math.log(width) + source.gauss(0.0, noise)
    )


THREE = {"proxy-256": 256, "proxy-512": 512, "target-1024": 1024}


def concluded(rows: Sequence[Row], *members: Member, **settings: float) -> dict[str, Any]:
    """Conclude; the summary is JSON and the rows come back."""
    marked, summary = Width(members, **settings).conclude(rows)
    assert list(marked) == list(rows)
    found: dict[str, Any] = json.loads(json.dumps(summary, allow_nan=False))
    return found


def trained(eta: Sequence[float], weight_decay: Sequence[float]) -> list[Member]:
    return [
        Member(name, width, eta=one, weight_decay=other)
        for (name, width), one, other in zip(THREE.items(), eta, weight_decay, strict=True)
    ]


def roles(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {role["role"]: role for role in summary["roles"]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (1, 30), (640, 560)], ids=str)
def test_sigma_max_against_lapack(
    shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator
) -> None:
    matrix = torch.randn(*shape, generator=generator).to(dtype)
    found = Width().measure(matrix_of(matrix)).values
    sigma = float(torch.linalg.svdvals(matrix.double())[0])
    assert tuple(found) == Width.keys
    assert found["sigma_max"] == pytest.approx(sigma, rel=1e-6)
    low, high = found["sigma_max_low"], found["sigma_max_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= sigma * (1 + 1e-9)
    assert sigma <= high * (1 + 1e-9)
    assert high <= 1.001 * low


def test_every_real_matrix(real: dict[str, Tensor]) -> None:
    for name, matrix in list(real.items())[1:20]:
        found = Width().measure(matrix_of(matrix, name)).values
        assert found["sigma_max"] == pytest.approx(
            float(torch.linalg.svdvals(matrix.double())[0]), rel=1e-6
        )


def test_nan_is_an_error_and_zero_is_zero() -> None:
    with pytest.raises(NonFiniteError):
        Width().measure(matrix_of(torch.full((3, 3), math.nan)))
    assert set(Width().measure(matrix_of(torch.zeros(4, 3))).values.values()) == {0.0}


def test_the_large_end_costs_no_more_than_all() -> None:
    for side in (100, 512, 600, 4096):
        view = view_of("h.0.mlp.up_proj.weight", side, side)
        assert 0.0 < float(Width().cost(view)) <= float(singular_values_work(side, side))
        assert Width().memory(view) > 4 * side**2
    assert float(Width().cost(view)) < 0.2 * float(singular_values_work(side, side))


@pytest.mark.parametrize("power", [-0.25, 0.0, 0.25, 0.75])
def test_planted_laws_are_found_exactly(power: float) -> None:
    summary = concluded(rows_of(THREE, planted(power)))
    for role in [*summary["roles"], summary["overall"]]:
        assert role["slope"] == pytest.approx(power, abs=1e-9)
        assert role["low"] <= power + 1e-9
        assert role["high"] >= power - 1e-9
        assert role["high"] - role["low"] < 1e-6
        assert role["models"] == role["widths"] == 3
    assert [role["role"] for role in summary["roles"]] == list(MODULES)
    assert summary["roles"][0]["layers"] == 6
    assert summary["widths"] == THREE
    assert summary["proxy"] == "proxy-256"


def test_noisy_laws_are_found() -> None:
    summary = concluded(rows_of(THREE, planted(0.25, 0.03), layers=12))
    for role in [*summary["roles"], summary["overall"]]:
        assert role["slope"] == pytest.approx(0.25, abs=0.05)
        assert role["low"] < role["slope"] < role["high"]
        assert role["high"] - role["low"] < 0.5


def test_slopes_are_scipys_of_the_medians() -> None:
    rows = rows_of(THREE, planted(0.1, 0.2), layers=[5, 8, 9])
    for kind, role in roles(concluded(rows)).items():
        medians = {
            model: median(
                row.number("sigma_max") or 0.0
                for row in rows
                if row.place.labels["model"] == model and row.place.role == kind
            )
            for model in THREE
        }
        assert role["sigma"] == pytest.approx(medians)
        line = stats.linregress(np.log(list(THREE.values())), np.log(list(medians.values())))
        assert role["slope"] == pytest.approx(line.slope, abs=1e-12)
        assert role["interval_from"] in {"models", "both"}
        assert role["layers"] == 5


def test_one_layer_each_leaves_the_residuals_alone() -> None:
    rows = rows_of({**THREE, "d": 2048}, planted(0.1, 0.2), layers=1, roles=["attn.q"])
    role = roles(concluded(rows, confidence=0.9))["attn.q"]
    y = [math.log(row.number("sigma_max") or 0.0) for row in rows]
    line = stats.linregress(np.log([256, 512, 1024, 2048]), y)
    reach = line.stderr * stats.t.ppf(0.95, 2)
    assert role["interval_from"] == "models"
    assert role["low"] == pytest.approx(line.slope - reach, rel=1e-8)
    assert role["high"] == pytest.approx(line.slope + reach, rel=1e-8)


def test_two_widths_are_judged_by_layers() -> None:
    two = {"a": 256, "b": 1024}
    summary = concluded(rows_of(two, planted(0.25, 0.02)))
    assert {role["interval_from"] for role in summary["roles"]} == {"layers"}
    assert summary["overall"]["interval_from"] == "roles"
    assert summary["reading"].endswith("How much two runs differ by chance is not in the interval.")
    apart = concluded(rows_of(two, planted(0.25, 0.02), layers=[4, 7]))
    assert {role["interval_from"] for role in apart["roles"]} == {"layers"}


def test_two_widths_and_one_layer_leave_nothing_to_judge_by() -> None:
    rows = rows_of({"a": 256, "b": 1024}, planted(0.25), layers=1, roles=["attn.q"])
    summary = concluded(rows)
    role = roles(summary)["attn.q"]
    assert (role["low"], role["high"], role["interval_from"]) == (None, None, None)
    assert role["reason"] == "two models and one layer leave nothing to judge by"
    assert summary["reading"] == (
        "sigma_max has slope +0.25 over 2 widths (0 = matched, +0.25 = weight decay held fixed); "
        "no interval: two models and one layer leave nothing to judge by."
    )


def test_one_odd_layer_hardly_matters() -> None:
    rows = rows_of(THREE, planted(0.25, 0.02))
    odd = [
        row(
            str(one.place.labels["model"]),
            1024,
            one.matrix,
            100.0 * (one.number("sigma_max") or 0.0),
        )
        if one.place.labels["width"] == 1024 and one.place.layer == 0
        else one
        for one in rows
    ]
    plain, shifted = concluded(rows), concluded(odd)
    for before, after in zip(plain["roles"], shifted["roles"], strict=True):
        assert abs(after["slope"] - before["slope"]) < 0.35  # the mean's would move by 0.5 and more
    assert abs(shifted["overall"]["slope"] - plain["overall"]["slope"]) < 0.15


def test_experts_count_once_a_layer() -> None:
    def experts(model: str, width: int) -> list[Row]:
        stem = "model.layers.{}.mlp.experts.{}.up_proj.weight"
        return [
            row(model, width, stem.format(i, expert), (1.0 + i) * (1.0 + expert))
            for i in range(3)
            for expert in range(5)
        ]

    role = roles(concluded([*experts("a", 8), *experts("b", 16)]))["mlp.up"]
    assert role["layers"] == 3
    assert role["sigma"] == {"a": 6.0, "b": 6.0}  # layer 1, expert 2


def test_embedding_head_and_router_are_told_but_not_counted() -> None:
    rows = rows_of(THREE, planted(0.0))
    for model, width in THREE.items():
        rows += [
            row(model, width, "model.embed_tokens.weight", width**0.5),
            row(model, width, "lm_head.weight", width**0.5),
            row(model, width, "model.layers.0.mlp.router.weight", width**0.5),
        ]
    summary = concluded(rows)
    for kind in ("embed", "lm_head", "router"):
        role = roles(summary)[kind]
        assert role["counted"] is False
        assert role["slope"] == pytest.approx(0.5)
        assert role["ratio"] == pytest.approx(2.0)
        assert role["ok"] is None
    assert summary["overall"]["slope"] == pytest.approx(0.0, abs=1e-9)
    assert {item["role"] for item in summary["matching"]} == set(MODULES)
    assert summary["advice"] == [
        "target-1024 matches proxy-256 within 10 % in every role: keep its weight decay."
    ]


def test_the_overall_slope_is_that_of_the_typical_role() -> None:
    powers = dict(zip(MODULES, (0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 2.0), strict=True))
    summary = concluded(rows_of(THREE, lambda role, i, width: (1.0 + i) * width ** powers[role]))
    assert summary["overall"]["slope"] == pytest.approx(0.25, abs=1e-9)
    assert summary["overall"]["low"] < 0.2
    assert summary["overall"]["high"] > 0.3
    alone = concluded(rows_of(THREE, planted(0.1, 0.1), roles=["attn.q"]))
    assert alone["overall"] == alone["roles"][0] | {"role": "overall"}


@pytest.mark.parametrize(
    ("eta", "weight_decay", "expected"),
    [
        ((4e-3, 2e-3, 1e-3), (0.1, 0.1, 0.1), 0.25),
        ((4e-3, 2e-3, 1e-3), (0.1, 0.1 * math.sqrt(2.0), 0.2), 0.0),
        ((4e-3, 2e-3, 1e-3), (0.1, 0.2, 0.4), -0.25),
        ((1e-3, 1e-3, 1e-3), (0.1, 0.1, 0.1), 0.75),
        ((4e-3, 1e-3, 1e-3), (0.3, 0.1, 0.2), 0.75 + 0.5 * (-1.0 + 0.5 * math.log2(1.5))),
    ],
    ids=["lambda fixed", "matched", "product fixed", "nothing scaled", "no power law"],
)
def test_what_eta_and_lambda_lead_to(
    eta: Sequence[float], weight_decay: Sequence[float], expected: float
) -> None:
    members = trained(eta, weight_decay)
    unit = {m.width: math.sqrt((m.eta or 0.0) / (m.weight_decay or 1.0)) for m in members}
    rows = rows_of(THREE, lambda _role, i, width: (1.0 + i) * unit[width] * width**0.75)
    summary = concluded(rows, *members)
    for role in [*summary["roles"], summary["overall"]]:
        assert role["expected"] == pytest.approx(expected, abs=1e-9)
        assert role["slope"] == pytest.approx(expected, abs=1e-9)
        assert role["normalised_slope"] == pytest.approx(0.75, abs=1e-9)
        assert role["normalised_low"] <= 0.75 + 1e-9
        assert role["normalised_high"] >= 0.75 - 1e-9
        assert role["normalised_high"] - role["normalised_low"] < 1e-6
    assert "onsistent with" in summary["reading"]


@pytest.mark.parametrize("missing", [{"eta": None}, {"weight_decay": None}, {"weight_decay": 0.0}])
def test_what_is_not_known_of_all_is_not_expected(missing: dict[str, Any]) -> None:
    members = trained((4e-3, 2e-3, 1e-3), (0.1, 0.1, 0.1))
    summary = concluded(rows_of(THREE, planted(0.25)), *members[:2], replace(members[2], **missing))
    assert summary["overall"]["expected"] is None
    assert summary["overall"]["normalised_slope"] is None


READINGS = {
    "as on the screen": (
        0.25, (0.1, 0.1, 0.1),
        ("sigma_max grows with width: slope +0.25 [+0.2_, +0.2_] over 3 widths (0 = matched, +0.25 "
        "= weight decay held fixed). Consistent with weight decay held fixed, not with matched."),
    ),
    "as it should be": (
        0.0, (0.1, 0.14142, 0.2),
        ("sigma_max shows no change with width: slope +0.00 [-0.0_, +0.0_] over 3 widths (0 = "
        "matched, as these eta and lambda lead to). Consistent with that."),
    ),
    "not as it should be": (
        0.5, (0.1, 0.14142, 0.2),
        ("sigma_max grows with width: slope +0.50 [+0.4_, +0.5_] over 3 widths (0 = matched, as "
        "these eta and lambda lead to). Not consistent with that."),
    ),
    "the product fixed": (
        -0.25, (0.1, 0.2, 0.4),
        ("sigma_max falls with width: slope -0.25 [-0.2_, -0.2_] over 3 widths (0 = matched, -0.25 "
        "= eta * lambda held fixed). Consistent with eta * lambda held fixed, not with matched."),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("power", "decay", "reading"),
    [pytest.param(*case, id=name) for name, case in READINGS.items()],
)
def test_readings(power: float, decay: Sequence[float], reading: str) -> None:
    wave = (0.004, -0.008, 0.004)  # orthogonal to any slope

    def sigma(role: str, i: int, width: int) -> float:
        sign = 1.0 if list(MODULES).index(role) % 2 else -1.0
        lift = sign * wave[list(THREE.values()).index(width)]
        tilt = sign * 0.004 * math.log2(width / 512) if role != "attn.q" else 0.0
        return (1.0 + i) * math.exp(power * math.log(width) + lift + tilt)

    found = concluded(rows_of(THREE, sigma), *trained((4e-3, 2e-3, 1e-3), decay))["reading"]
    pattern = reading.split("_")
    at = 0
    for piece in pattern:
        assert found.find(piece, at) >= at, (piece, found)
        at = found.find(piece, at) + len(piece)
    assert found.startswith(pattern[0])
    assert found.endswith(pattern[-1])


def test_readings_of_what_nothing_is_known() -> None:
    falls = concluded(rows_of(THREE, planted(-0.1, 1e-4)))["reading"]
    assert "falls with width: slope -0.10 [-0.10, -0.10] over 3 widths" in falls
    assert "(0 = matched, -0.25 = eta * lambda held fixed). Consistent with neither." in falls
    open_ = concluded(rows_of({"a": 256, "b": 512}, planted(0.1, 0.5)))["reading"]
    assert open_.startswith("Whether sigma_max changes with width cannot be told: slope ")
    assert "Consistent with both." in open_


def test_other_scalings_have_no_name() -> None:
    summary = concluded(rows_of(THREE, planted(0.75)), *trained((1e-3,) * 3, (0.1,) * 3))
    assert "+0.75 = what these eta and lambda lead to). Consistent with" in summary["reading"]


def test_matching_by_hand() -> None:
    widths = {"proxy": 64, "target": 128, "middle": 96}
    gains = {"attn.q": 1.3, "attn.k": 1.45, "attn.v": 1.5, "attn.o": 1.4, "mlp.up": 1.09}
    rows = rows_of(
        widths,
        lambda role, i, width: (2.0 + i) * (gains[role] if width == 128 else 1.0),
        roles=list(gains),
    )
    members = [Member("proxy", 64), Member("target", 128, weight_decay=0.1), Member("middle", 96)]
    summary = concluded(rows, *members)
    target = [item for item in summary["matching"] if item["model"] == "target"]
    assert {item["role"]: item["ratio"] for item in target} == pytest.approx(gains)
    assert {item["proxy"] for item in target} == {"proxy"}
    assert [item["role"] for item in target if item["ok"]] == ["mlp.up"]
    for item in target:
        assert item["weight_decay_factor"] == pytest.approx(gains[item["role"]] ** 2)
    assert summary["targets"][0]["ratio"] == pytest.approx(1.4)
    assert summary["targets"][0]["weight_decay_needed"] == pytest.approx(0.1 * 1.96)
    assert [target["model"] for target in summary["targets"]] == ["target", "middle"]
    assert summary["overall"]["ratio"] == pytest.approx(1.4)
    assert summary["overall"]["ok"] is False
    assert roles(summary)["mlp.up"]["ok"] is True
    assert summary["advice"] == [
        (
            "Matching target to proxy needs weight decay 0.2 (now 0.1) on matrices. That leaves "
            "outside 10 %: mlp.up (0.7786)."
        )
    ]


@pytest.mark.parametrize(
    ("gain", "decay", "advice"),
    [
        (math.sqrt(2.0), None, "Matching b to a needs 2 times its weight decay on matrices."),
        (math.sqrt(2.0), 0.1, "Matching b to a needs weight decay 0.2 (now 0.1) on matrices."),
        (0.5, 0.04, "Matching b to a needs weight decay 0.01 (now 0.04) on matrices."),
        (1.1, 0.1, "b matches a within 10 % in every role: keep its weight decay."),
        (0.9, 0.1, "b matches a within 10 % in every role: keep its weight decay."),
        (1.101, None, "Matching b to a needs 1.2 times its weight decay on matrices."),
        (0.899, None, "Matching b to a needs 0.81 times its weight decay on matrices."),
    ],
)
def test_advice(gain: float, decay: float | None, advice: str) -> None:
    rows = rows_of({"a": 64, "b": 128}, lambda _role, i, width: gain if width == 128 else 1.0)
    members = [Member("a", 64), Member("b", 128, weight_decay=decay)]
    assert concluded(rows, *members)["advice"] == [advice]


def test_a_match_on_the_whole_names_who_is_apart() -> None:
    gains = {"attn.q": 1.0, "attn.k": 1.02, "mlp.up": 1.5, "mlp.down": 0.5, "attn.o": 1.01}
    rows = rows_of(
        {"a": 64, "b": 128},
        lambda role, i, width: gains[role] if width == 128 else 1.0,
        roles=list(gains),
    )
    assert concluded(rows)["advice"] == [
        (
            "b matches a within 10 % on the whole (ratio 1.01), but not in mlp.down (0.5), mlp.up "
            "(1.5): no weight decay common to all matrices mends that."
        )
    ]
    assert concluded(rows, tolerance=0.5)["advice"] == [
        "b matches a within 50 % in every role: keep its weight decay."
    ]


def test_a_proxy_that_is_named_has_every_model_matched_to_it() -> None:
    members = [
        Member("proxy-256", 256), Member("proxy-512", 512, proxy=True), Member("target-1024", 1024),
    ]  # fmt: skip
    summary = concluded(rows_of(THREE, planted(1.0)), *members)
    assert summary["proxy"] == "proxy-512"
    assert summary["advice"] == [
        "Matching target-1024 to proxy-512 needs 4 times its weight decay on matrices.",
        "Matching proxy-256 to proxy-512 needs 0.25 times its weight decay on matrices.",
    ]
    assert [role["ratio"] for role in summary["roles"]] == pytest.approx([2.0] * len(MODULES))


def test_one_width_is_matched_without_a_slope() -> None:
    rows = rows_of({"a": 64, "b": 64}, planted(0.0))
    doubled = [
        replace(one, values=dict.fromkeys(Width.keys, 2.0 * (one.number("sigma_max") or 0.0)))
        if one.place.labels["model"] == "b"
        else one
        for one in rows
    ]
    summary = concluded(doubled, Member("a", 64, proxy=True), Member("b", 64))
    assert summary["reading"] == (
        "sigma_max of b is 2 times that of a (median of 7 roles); one width has no slope."
    )
    assert {role["slope"] for role in summary["roles"]} == {None}
    assert summary["advice"] == ["Matching b to a needs 4 times its weight decay on matrices."]


def test_the_real_model_against_itself_doubled(real: dict[str, Tensor]) -> None:
    def rows(model: str, gain: float) -> list[Row]:
        return [
            labelled(
                row_of(Width(), matrix_of(gain * matrix, name)), {"model": model, "width": 384}
            )
            for name, matrix in real.items()
            if "layer.0." in name or "layer.3." in name
        ]

    summary = concluded(
        [*rows("once", 1.0), *rows("twice", 2.0)],
        Member("once", 384, proxy=True),
        Member("twice", 384, weight_decay=0.05),
    )
    assert {item["role"] for item in summary["matching"]} == {
        "attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down",
    }  # fmt: skip
    for item in summary["matching"]:
        assert item["ratio"] == pytest.approx(2.0, rel=1e-5)
        assert item["weight_decay_factor"] == pytest.approx(4.0, rel=1e-5)
    assert summary["advice"] == [
        "Matching twice to once needs weight decay 0.2 (now 0.05) on matrices."
    ]


def test_roles_are_fitted_on_the_models_that_have_them() -> None:
    rows = [
        one
        for one in rows_of(THREE, planted(0.25), roles=["attn.q", "mlp.up"])
        if not (one.place.labels["width"] == 512 and one.place.role == "mlp.up")
    ]
    rows += rows_of({"proxy-256": 256}, planted(0.0), roles=["attn.o"])
    summary = concluded(rows)
    assert roles(summary)["attn.q"]["models"] == 3
    assert roles(summary)["mlp.up"]["models"] == 2
    assert roles(summary)["mlp.up"]["slope"] == pytest.approx(0.25)
    assert roles(summary)["attn.o"]["slope"] is None
    assert roles(summary)["attn.o"]["reason"] == "one width has no slope"
    assert summary["overall"]["slope"] == pytest.approx(0.25)


def test_no_role_in_every_model() -> None:
    rows = [
        *rows_of({"a": 64}, planted(0.0), roles=["attn.q"]),
        *rows_of({"b": 128}, planted(0.0), roles=["mlp.up"]),
    ]
    summary = concluded(rows)
    assert summary["overall"] is None
    assert summary["reading"] == "No hidden matrix could be measured in every model."
    assert summary["advice"] == ["b and a have no hidden matrix in common that could be measured."]


def test_zero_and_broken_matrices_are_left_out_and_told() -> None:
    rows = rows_of(THREE, planted(0.25))
    rows.append(row("proxy-256", 256, "model.layers.9.mlp.up_proj.weight", 0.0))
    rows.append(row("proxy-512", 512, "model.layers.9.mlp.up_proj.weight", None))
    summary = concluded(rows)
    assert (summary["zero"], summary["non_finite"]) == (1, 1)
    assert summary["overall"]["slope"] == pytest.approx(0.25)
    assert summary["reading"].endswith(" Left out: 1 matrix that is zero.")


def test_odd_rows_do_not_crash() -> None:
    assert concluded([])["reading"] == "No hidden matrix could be measured in every model."
    alone = concluded(rows_of({"a": 64}, planted(0.0)))
    assert alone["reading"] == "Nothing to compare: one width has no slope."
    assert (alone["advice"], alone["matching"], alone["proxy"]) == ([], [], None)
    broken = [row("a", 8, "h.0.mlp.up_proj.weight", None), row("b", 9, "x.weight", None)]
    assert concluded(broken)["roles"] == []
    nameless = [labelled(one, {}) for one in rows_of({"a": 64}, planted(0.0))]
    assert concluded(nameless)["widths"] == {"": 0}
    no_width = rows_of({"a": 0, "b": 64, "c": 128}, _one)
    assert concluded(no_width)["roles"][0]["widths"] == 2
    huge = rows_of(
        {"a": 64, "b": 128}, lambda _role, _layer, width: 1e300 if width == 64 else 1e-300
    )
    assert concluded(huge)["targets"][0]["ratio"] == pytest.approx(1e-150)


def _one(_role: str, _layer: int, _width: int) -> float:
    return 1.0


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
@pytest.mark.parametrize("setting", ["tolerance", "confidence"])
def test_shares_that_cannot_be_meant(setting: str, share: float) -> None:
    settings: dict[str, Any] = {setting: share}
    with pytest.raises(UsageError, match=f"{setting} .* is no share. Expected above 0 and below 1"):
        Width(**settings)


def test_names_that_would_tear_a_line_are_escaped() -> None:
    rows = rows_of({"a\nb": 64, "c": 128}, planted(1.0))
    summary = concluded(rows)
    assert summary["advice"] == [
        "Matching c to 'a\\nb' needs 4 times its weight decay on matrices."
    ]
