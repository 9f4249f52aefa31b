"""Directions that are taken out of a model, planted; and changes that are none."""

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from analyzers.subjects import pair_of, row_of
from spectra.analyzers import Diff, Row, ablation
from spectra.analyzers.direction import DIRECTIONS, along_of
from spectra.matrices import LowRank

LAYERS, WIDTH = 5, 192
OUT, DOWN = "self_attn.o_proj.weight", "mlp.down_proj.weight"
SHAPES = {
    "self_attn.q_proj.weight": (WIDTH, WIDTH), OUT: (WIDTH, WIDTH),
    "mlp.up_proj.weight": (320, WIDTH), DOWN: (WIDTH, 320),
}  # fmt: skip
EMBED = "model.embed_tokens.weight"
Edit = Callable[[str, Tensor], Tensor | LowRank | None]
Updates = dict[str, tuple[Tensor, Tensor]]


def normal(rows: int, cols: int, seed: int, scale: float = 0.02) -> Tensor:
    return scale * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def model(dtype: torch.dtype = torch.float32, experts: int = 0) -> dict[str, Tensor]:
    found = {EMBED: normal(500, WIDTH, 1)}
    for layer in range(LAYERS):
        for seed, (name, shape) in enumerate(SHAPES.items()):
            found[f"model.layers.{layer}.{name}"] = normal(*shape, 10 * layer + seed + 2)
        for expert in range(experts):
            name = f"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight"
            found[name] = normal(WIDTH, 64, 1000 + 10 * layer + expert)
    return {name: values.to(dtype) for name, values in found.items()}


def direction(seed: int, width: int = WIDTH) -> Tensor:
    drawn = normal(width, 1, 500 + seed).double()[:, 0]
    unit: Tensor = drawn / drawn.norm()
    return unit


def without(values: Tensor, unit: Tensor, scale: float = 1.0, axis: int = 0) -> Tensor:
    """Take a direction out of what a matrix writes, or of what it reads, and store it again."""
    wide = values.double()
    taken = torch.outer(unit, unit @ wide) if axis == 0 else torch.outer(wide @ unit, unit)
    return (wide - scale * taken).to(values.dtype)


def layer_of(name: str) -> int:
    found = re.search(r"layers\.(\d+)", name)
    return int(found[1]) if found else -1


def rows_of(weights: Mapping[str, Tensor], edit: Edit) -> list[Row]:
    return [
        row_of(Diff(), pair_of(values, edit(name, values), name))
        for name, values in weights.items()
    ]


def concluded(rows: list[Row]) -> tuple[str, list[dict[str, object]]]:
    summary = Diff().conclude(rows)[1]
    found = summary.get("directions", [])
    assert isinstance(found, list)
    return str(summary["reading"]), found


def one(found: list[dict[str, object]], flow: str = "writes") -> dict[str, object]:
    (edit,) = (item for item in found if item["flow"] == flow)
    return edit


def writes(name: str) -> bool:
    return name.endswith((OUT, DOWN)) or ("experts" in name and "down" in name)


def ablated(name: str, values: Tensor, unit: Tensor, scale: float = 1.0) -> Tensor | None:
    if name == EMBED:
        return without(values, unit, scale, axis=1)
    return without(values, unit, scale) if writes(name) else None


DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_direction_is_named_and_found_as_exactly_as_rounding_lets_it(
    dtype: torch.dtype,
) -> None:
    unit = direction(0)
    rows = rows_of(model(dtype), lambda name, values: ablated(name, values, unit))
    told, found = concluded(rows)
    edit = one(found)
    assert (edit["kind"], edit["changed"], edit["ablated"]) == ("ablation", 11, 11)
    assert told.startswith(
        "An ablation: one direction was taken out of 11 of 11 changed matrices that write to the "
        "residual stream, embeddings, attention and MLP of 5 layers, and explains "
    )
    assert "LoRA" not in told
    error = float(str(edit["error"]))
    assert error < {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.015}[dtype]
    for row in rows:
        along = along_of(row)
        if along is None:
            continue
        sine = max(1.0 - float(along.directions[0].double() @ unit) ** 2, 0.0) ** 0.5
        assert sine < max(2.0 * along.rounding**0.5, 1e-3)  # in float32
        assert along.scale == pytest.approx(1.0, abs=max(3.0 * along.rounding**0.5, 1e-3))
    layers = edit["layers"]
    assert isinstance(layers, list)
    assert [item["layer"] for item in layers] == [0, 1, 2, 3, 4, None]
    assert all(item["strength"] > 0.98 for item in layers)
    assert float(str(edit["null_high"])) < 0.25
    assert float(str(edit["share"])) > 0.98


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.5])
def test_weights_of_their_own_and_layers_that_are_left(scale: float) -> None:
    unit = direction(1)

    def edit(name: str, values: Tensor) -> Tensor | None:
        layer = layer_of(name)
        return ablated(name, values, unit, scale + 0.05 * layer) if 1 <= layer <= 3 else None

    told, found = concluded(rows_of(model(torch.bfloat16), edit))
    assert one(found)["kind"] == "ablation"
    assert one(found)["untouched_layers"] == "0, 4"
    assert "Not touched: layers 0, 4." in told
    layers = one(found)["layers"]
    assert isinstance(layers, list)
    for item in layers:
        assert item["scale"] == pytest.approx(scale + 0.05 * item["layer"], rel=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("of_lengths", [False, True], ids=["rows", "unit-rows"])
def test_rows_that_get_their_lengths_back(of_lengths: bool, dtype: torch.dtype) -> None:
    """As norm-preserving ablations write it, of the weights or of rows of length 1."""
    unit, weights = direction(1), model(dtype)

    def edit(name: str, values: Tensor) -> Tensor | None:
        if not writes(name):
            return None
        wide = values.double()
        lengths = wide.norm(dim=1, keepdim=True)
        made = without(wide / lengths if of_lengths else wide, unit)
        kept: Tensor = made * (lengths / made.norm(dim=1, keepdim=True))
        return kept.to(dtype)

    text, found = concluded(rows_of(weights, edit))
    told = one(found)
    assert text.startswith("An ablation: one direction was taken out of ")
    assert told["kind"] == "ablation"
    for layer in told["layers"]:  # type: ignore[attr-defined]
        assert layer["scale"] == pytest.approx(1.0, abs=0.05)
        assert layer["strength"] > 0.95


def test_a_direction_that_was_strengthened_is_no_ablation() -> None:
    unit = direction(2)
    told, found = concluded(rows_of(model(), lambda name, w: ablated(name, w, unit, -0.5)))
    assert one(found)["kind"] == "ablation"
    assert "ablation" not in told
    assert told.startswith("One direction was strengthened in 11 of 11 changed matrices")
    assert "scale -0.5 (-1 doubles it)" in told


def test_a_direction_of_each_layer() -> None:
    def edit(name: str, values: Tensor) -> Tensor | None:
        return None if name == EMBED else ablated(name, values, direction(layer_of(name)))

    told, found = concluded(rows_of(model(torch.bfloat16), edit))
    assert one(found)["kind"] == "ablation by layer"
    assert told.startswith(
        "An ablation: a direction of its own was taken out of each of 5 layers, in 10 of 10 changed"
    )


def test_what_reads_from_the_stream() -> None:
    unit = direction(3)

    def edit(name: str, values: Tensor) -> Tensor | None:
        reads = name.endswith(("q_proj.weight", "up_proj.weight"))
        return without(values, unit, axis=1) if reads else None

    told, found = concluded(rows_of(model(), edit))
    assert one(found, "reads")["kind"] == "ablation"
    assert "10 of 10 changed matrices that read from the residual stream" in told
    assert all(item["flow"] == "reads" for item in found)


def test_experts_that_are_left() -> None:
    unit = direction(4)
    weights = model(experts=3)

    def edit(name: str, values: Tensor) -> Tensor | None:
        return None if "experts.2." in name else ablated(name, values, unit)

    rows = rows_of(weights, edit)
    told, found = concluded(rows)
    assert one(found)["kind"] == "ablation"
    assert one(found)["untouched_experts"] == LAYERS
    assert told.endswith("Not touched: expert 2 of layers 0-4.")
    kept = [row.arrays[DIRECTIONS].dtype for row in rows if "experts.0" in row.matrix]
    assert kept == [torch.float16] * LAYERS  # thousands of experts must fit


def test_matrices_that_storing_alone_rounded_are_not_held_against_it() -> None:
    """An ablation of some layers, saved in bfloat16 whole."""
    unit = direction(6)

    def edit(name: str, values: Tensor) -> Tensor:
        taken = ablated(name, values, unit) if layer_of(name) not in (1, 2) else None
        return (values if taken is None else taken).bfloat16()

    told, found = concluded(rows_of(model(), edit))
    counts = one(found)
    assert (counts["matrices"], counts["changed"], counts["ablated"]) == (11, 7, 7)
    assert told.startswith("An ablation: one direction was taken out of 7 of 7 changed matrices")
    assert "Not touched: layers 1-2. The change is rounding alone (14 of 21 matrices)." in told
    assert float(str(counts["share"])) > 0.98
    assert [edit["flow"] for edit in found] == ["writes"]


def test_an_ablation_beside_a_fine_tune_of_what_reads() -> None:
    unit = direction(5)

    def edit(name: str, values: Tensor) -> Tensor | LowRank | None:
        if name.endswith("q_proj.weight"):
            return LowRank(normal(len(values), 4, 1, 1.0), normal(4, WIDTH, 2, 0.01))
        return ablated(name, values, unit)

    told, _ = concluded(rows_of(model(), edit))
    assert told.startswith("An ablation: one direction was taken out of 11 of 11")
    assert (
        "The change looks like a rank-4 LoRA on attention of 5 layers (5 of 21 matrices)." in told
    )


def lora(rank: int, dtype: torch.dtype | None) -> Edit:
    def edit(name: str, values: Tensor) -> Tensor | LowRank:
        rows, cols = values.shape
        seed = sum(map(ord, name))
        factors = normal(rows, rank, seed, 1.0), normal(rank, cols, seed + 1, 0.002)
        if dtype is None:
            return LowRank(*factors)
        return (values.float() + factors[0] @ factors[1]).to(dtype)

    return edit


def shared(name: str, values: Tensor) -> Tensor:
    """Add something along one direction that is not what the base has there."""
    unit = direction(7).float()
    other = normal(1, values.shape[1], sum(map(ord, name)), 0.02)
    if not writes(name):
        return values
    return values + unit.unsqueeze(1) @ other


def full(name: str, values: Tensor) -> Tensor:
    return normal(len(values), values.shape[1], sum(map(ord, name)), 0.002)


NONE: dict[str, Edit] = {
    "lora of rank 1": lora(1, None),
    "lora of rank 8": lora(8, None),
    "merged lora of rank 1": lora(1, torch.float32),
    "merged lora, bf16": lora(2, torch.bfloat16),
    "full": lambda name, values: values + full(name, values),
    "rounded": lambda _, values: values.bfloat16(),
    "quantised": lambda _, values: (values * 200).round() / 200,
    "shrunk": lambda _, values: values * 0.97,
    "one direction, not the base's": shared,
    "unchanged": lambda _name, _values: None,
}


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_ablation_is_not_called_one(kind: str) -> None:
    told, found = concluded(rows_of(model(), NONE[kind]))
    assert "ablation" not in told
    assert all(item["ablated"] == 0 for item in found)
    if kind == "one direction, not the base's":
        assert told.startswith(
            "One direction explains 100 % of the change of 10 changed matrices that write to the "
            "residual stream (independent changes: 1"
        )
    else:
        assert all(item["kind"] == "" for item in found)


def test_the_real_adapter_is_no_ablation(real: dict[str, Tensor], updates: Updates) -> None:
    for merged in (False, True):
        rows = [
            row_of(Diff(), pair_of(
                base, base + updates[name][0] @ updates[name][1] if merged
                else LowRank(*updates[name]), name))
            for name, base in real.items() if name in updates
        ]  # fmt: skip
        told, found = concluded(rows)
        assert "ablation" not in told
        assert {item["flow"] for item in found} == {"writes", "reads"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_ablation_of_the_real_model(real: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Massive directions, unlike rows and columns: what is taken out is found all the same."""
    unit = direction(9, 384)

    def edit(name: str, values: Tensor) -> Tensor | None:
        if "embeddings" in name:
            return without(values, unit, axis=1)
        return without(values, unit) if name.endswith("output.dense.weight") else None

    some = {name: values[:4000].to(dtype) for name, values in real.items()}  # of 30,522 words
    told, found = concluded(rows_of(some, edit))
    assert one(found)["kind"] == "ablation"
    assert one(found)["ablated"] == one(found)["changed"] == 15
    assert told.startswith("An ablation: one direction was taken out of 15 of 15 changed matrices")


def matrix_of(name: str) -> Edit:
    """A LoRA of rank 1, but for one matrix, of which two directions hold much each."""
    return lambda one, values: lora(2 if one.endswith(name) else 1, None)(one, values)


@pytest.mark.parametrize("few", [1 << 22, 1])
def test_the_null_is_that_of_independent_changes(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What eleven matrices have in common once each is turned by a rotation of its own.

    The numbers are the same however many are drawn at once.
    """
    monkeypatch.setattr(ablation, "ENTRIES", max(few, 2 * WIDTH * (2 * LAYERS + 1)))
    rows = rows_of(model(), matrix_of(DOWN))
    edit = one(concluded(rows)[1])
    written = [row for row in rows if row.matrix == EMBED or writes(row.matrix)]
    along = [found for row in written if (found := along_of(row))]
    assert len(along) == edit["changed"] == 11
    lines = [it.shares.sqrt()[:, None] * it.directions.double() for it in along]
    assert sorted({len(own) for own in lines}) == [1, 2]
    shares = []
    source = torch.Generator().manual_seed(1)
    for _ in range(20):
        drawn = torch.randn(len(lines), WIDTH, WIDTH, generator=source, dtype=torch.float64)
        turns = torch.linalg.qr(drawn).Q
        turned = torch.cat([own @ turn for own, turn in zip(lines, turns, strict=True)])
        shares.append(float(torch.linalg.svdvals(turned)[0] ** 2) / len(lines))
    low, high = (float(str(edit[f"null_{end}"])) for end in ("low", "high"))
    assert low < sum(shares) / len(shares) < high
    assert high - low < 2.0 * (max(shares) - min(shares))
    assert low < float(str(edit["share"])) < high


def test_thousands_of_directions_are_met_by_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = direction(4)
    rows = rows_of(model(experts=2), lambda name, values: ablated(name, values, unit))
    expected = one(concluded(rows)[1])
    monkeypatch.setattr(ablation, "SMALL", 2)
    found = one(concluded(rows)[1])
    assert found["kind"] == expected["kind"] == "ablation"
    assert found["share"] == pytest.approx(expected["share"], abs=1e-5)
    assert found["null_high"] == pytest.approx(expected["null_high"], rel=0.02)
