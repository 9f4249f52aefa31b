"""What a change is said to be, on changes whose kind is known by construction."""

import math

import pytest
import torch
from torch import Tensor

from analyzers.subjects import pair_of, row_of
from spectra.analyzers import Diff, Row
from spectra.matrices.pair import Pair, Quantised

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
SHAPES = [(256, 256), (512, 128), (128, 512)]


def base_of(kind: str, rows: int, cols: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    base = 0.02 * torch.randn(rows, cols, generator=source)
    if kind == "row":
        base[7] *= 50.0
    if kind == "columns":
        base[:, 5] *= 50.0
        base[:, 77] *= 20.0
    if kind == "entry":
        base[3, 4] = 20.0
    if kind == "heavy":  # Student's t with 3 degrees of freedom
        chi = torch.randn(3, rows, cols, generator=source).square().sum(dim=0)
        base /= (chi / 3.0).sqrt()
    if kind == "orthogonal":
        whole: Tensor = torch.linalg.qr(torch.randn(512, 512, generator=source)).Q
        base = whole[:rows, :cols].clone()
    return base


def low(base: Tensor, rank: int, relative: float, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    left = torch.randn(len(base), rank, generator=source)
    update = left @ torch.randn(rank, base.shape[1], generator=source)
    return update * (relative * float(base.norm()) / float(update.norm()))


def full(base: Tensor, relative: float, power: float, seed: int = 2) -> Tensor:
    """An update of full rank whose singular values fall as i to the power."""
    source = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(len(base), len(base), generator=source)).Q
    right = torch.linalg.qr(torch.randn(len(base), len(base), generator=source)).Q
    update: Tensor = left / torch.arange(1.0, len(base) + 1).pow(power) @ right
    return update * (relative * float(base.norm()) / float(update.norm()))


def measured(base: Tensor, tuned: Tensor, name: str = "h.0.attn.q_proj.weight") -> Row:
    return row_of(Diff(), pair_of(base, tuned, name))


def said(base: Tensor, tuned: Tensor) -> tuple[object, object]:
    values = measured(base, tuned).values
    return values["delta_kind"], values["delta_rank"]


def reading(*rows: Row) -> str:
    return str(Diff().conclude(rows)[1]["reading"])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["even", "row", "columns", "entry", "heavy", "orthogonal"])
def test_a_merge_in_bfloat16_has_the_adapters_rank(kind: str, shape: tuple[int, int]) -> None:
    base = base_of(kind, *shape).to(BF16)
    for relative in (0.1, 0.01, 0.003):
        tuned = (base.float() + low(base.float(), 8, relative)).to(BF16)
        assert said(base, tuned) == ("low rank", 8), relative
        # The grid that the values lie on counts, not the dtype of the file.
        assert said(base.float(), tuned.float()) == ("low rank", 8), relative
    faint = (base.float() + low(base.float(), 8, 0.0003)).to(BF16)
    found, rank = said(base, faint)
    assert found in {"low rank", "at least", "unresolved"}
    assert isinstance(rank, int)
    assert rank == 8 if found == "low rank" else rank <= 8


@pytest.mark.parametrize("kind", ["even", "row"])
@pytest.mark.parametrize("relative", [0.1, 0.01, 0.003])
def test_other_ways_to_merge(kind: str, relative: float) -> None:
    master = base_of(kind, 256, 256)
    base = master.to(BF16)
    update = low(base.float(), 8, relative)
    ways = {
        "as PEFT merges": (base, base + update.to(BF16)),
        "bf16 base, float32 tuned": (base, base.float() + update),
        "float32 base, bf16 tuned": (master, (master + update).to(BF16)),
        "the same stored as float32": (master, (master + update).to(BF16).float()),
        "bf16 copy of the base, float32 tuned": (base, master + update),
        "both rounded from float32": (base, (master + update).to(BF16)),
        "float32": (master, master + update),
        "float16": (master.to(F16), (master.to(F16).float() + update).to(F16)),
        "float16 base, bf16 tuned": (master.to(F16), (master.to(F16).float() + update).to(BF16)),
    }
    for way, pair in ways.items():
        assert said(*pair) == ("low rank", 8), way


@pytest.mark.parametrize("rank", [1, 2, 4, 16])
def test_other_ranks_in_bfloat16(rank: int) -> None:
    base = base_of("even", 512, 512).to(BF16)
    for relative in (0.03, 0.01, 0.003):
        tuned = (base.float() + low(base.float(), rank, relative)).to(BF16)
        assert said(base, tuned) == ("low rank", rank), relative


def test_rows_off_the_grid_do_not_hide_it() -> None:
    base = base_of("even", 256, 256).to(BF16).float()
    exact = base + low(base, 8, 0.01)
    tuned = exact.to(BF16).float()
    tuned[5] = exact[5]
    assert said(base, tuned) == ("low rank", 8)


def test_two_adapters_have_the_sum_of_their_ranks() -> None:
    base = base_of("even", 256, 256).to(BF16)
    both = low(base.float(), 8, 0.01) + low(base.float(), 8, 0.02, seed=5)
    assert said(base, (base.float() + both).to(BF16)) == ("low rank", 16)


def test_an_update_in_a_row_of_its_own_size() -> None:
    base = base_of("even", 256, 256).to(BF16)
    update = low(base.float(), 8, 0.01)
    update[5] *= 50.0
    assert said(base, (base.float() + update).to(BF16)) == ("low rank", 8)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("relative", [0.03, 0.01, 0.003, 0.001, 0.0003])
def test_a_full_update_that_fades_below_rounding_is_no_lora(power: float, relative: float) -> None:
    base = base_of("even", 256, 256).to(BF16)
    tuned = (base.float() + full(base.float(), relative, power)).to(BF16)
    assert said(base, tuned)[0] in {"full rank", "at least", "unresolved"}
    master = base_of("even", 256, 256)
    exact = said(master, master + full(master, relative, power))[0]
    assert exact == "full rank" if power < 2 else exact != "low rank"


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize("ratio", [1.7, 2.0, 5.0])
def test_a_full_update_that_halves_is_no_lora(dtype: torch.dtype, ratio: float) -> None:
    base = base_of("even", 256, 256).to(dtype)
    source = torch.Generator().manual_seed(2)
    sides = [torch.linalg.qr(torch.randn(256, 256, generator=source)).Q.double() for _ in "UV"]
    update = sides[0] * ratio ** -torch.arange(256.0).double() @ sides[1]
    for relative in (0.1, 0.01, 0.003):
        exact = base.double() + update * (relative * base.double().norm() / update.norm())
        assert said(base, exact.to(dtype))[0] in {"at least", "unresolved"}


@pytest.mark.parametrize("relative", [0.003, 0.001])
def test_a_full_update_below_rounding_is_a_change(relative: float) -> None:
    base = base_of("even", 256, 256).to(BF16)
    steps = torch.randn(256, 256, generator=torch.Generator().manual_seed(3)).sign()
    tuned = (base.float() + 0.02 * relative * steps).to(BF16)
    row = measured(base, tuned)
    moved = int((base != tuned).sum())
    assert row.values["delta_kind"] == "unresolved"
    assert row.values["delta_moved"] == moved
    assert reading(row) == (
        "Attention of 1 layer (1 of 1 matrix) changed by less than the rounding of BF16 can "
        f"resolve in rank: {moved:,} of 65,536 entries moved; whether by a LoRA or by full "
        "fine-tuning is not known."
    )


def test_what_stands_above_rounding_may_not_be_all() -> None:
    base = base_of("even", 256, 256).to(BF16)
    row = measured(base, (base.float() + full(base.float(), 0.01, 1.0)).to(BF16))
    rank = row.values["delta_rank"]
    moved = f"{row.values['delta_moved']:,} of 65,536 entries moved"
    assert reading(row) == (
        "Attention of 1 layer (1 of 1 matrix) changed in part by less than the rounding of BF16 "
        f"can resolve in rank: {moved}, at least rank {rank} stands above it; whether by a LoRA or "
        "by full fine-tuning is not known."
    )
    faint = measured(base, (base.float() + full(base.float(), 0.0003, 0.0)).to(BF16))
    assert faint.values["delta_rank"] == 0
    assert f", up to rank {rank} stands above it; whether" in reading(row, faint)
    lora = measured(base, (base.float() + low(base.float(), 8, 0.01)).to(BF16))
    assert reading(lora, row) == (
        "The change looks like a rank-8 LoRA on attention of 1 layer (1 of 2 matrices). 1 more "
        "matrix changed in part by less than the rounding of BF16 can resolve in rank: "
        f"{moved}, at least rank {rank} stands above it; whether by a LoRA or by full fine-tuning "
        "is not known."
    )


def test_storing_alone_is_told_by_its_values() -> None:
    master = base_of("even", 128, 128)
    for other in (
        master.to(BF16), master.to(F16), master.to(BF16).float(), master.double().to(F16),
    ):  # fmt: skip
        assert said(master, other) == ("rounding", 0)
        assert said(other, master) == ("rounding", 0)
    assert said(master.to(F16), master.to(BF16)) == ("rounding", 0)  # of a third
    float8 = (10 * master).to(torch.float8_e4m3fn)
    assert said(10 * master, float8.to(BF16)) == ("rounding", 0)
    small = master.to(BF16)
    small[3] *= 1e-5  # below what is normal in float16
    assert said(small, small.to(F16)) == ("rounding", 0)
    assert said(small, (small.float() + low(small.float(), 2, 0.1)).to(F16)) == ("low rank", 2)
    one_step = torch.nextafter(small.float(), torch.tensor(1.0)).to(BF16)
    one_step[:4] = small[:4] * (1 + 2**-7)
    assert said(small, one_step.float())[0] == "few rows"
    nearly = master.to(BF16).float()
    nearly[0, 0] += 0.01
    assert said(master, nearly) == ("few rows", 1)
    assert reading(measured(master, master.to(BF16))) == (
        "The change is rounding alone (1 of 1 matrix)."
    )


def test_few_rows_columns_and_pruning() -> None:
    base = base_of("even", 300, 64).to(BF16)
    rows, cols, pruned = base.clone(), base.clone(), base.clone()
    rows[[4, 99, 201]] += base[:3]
    cols[:, 3] += 0.01
    pruned[base.abs() < 0.01] = 0.0
    assert reading(measured(base, rows, "embed_tokens.weight")) == (
        "In embeddings (1 of 1 matrix) only 3 of 300 rows changed."
    )
    assert reading(measured(base, cols)) == (
        "In attention of 1 layer (1 of 1 matrix) only 1 of 64 columns changed."
    )
    share = float((pruned == 0).float().mean())
    assert reading(measured(base, pruned)) == (
        f"In attention of 1 layer (1 of 1 matrix) {100 * share:.1f} % of the entries became zero "
        "and no others changed: pruning."
    )
    lora = measured(base, (base.float() + low(base.float(), 4, 0.05)).to(BF16))
    assert reading(lora, measured(base, rows)) == (
        "The change looks like a rank-4 LoRA on attention of 1 layer (1 of 2 matrices). In 1 more "
        "matrix only 3 of 300 rows changed."
    )


def ternary(rows: int, cols: int) -> Tensor:
    source = torch.Generator().manual_seed(8)
    return 0.5 * torch.randint(-1, 2, (rows, cols), generator=source).float()


def test_a_coarse_base_is_exact() -> None:
    """Ternary values lie on every grid: none of them was rounded."""
    base = ternary(256, 256)
    for relative in (0.1, 0.001):
        tuned = base + low(base, 8, relative)
        assert said(base, tuned) == ("low rank", 8)
        assert said(base.to(BF16), tuned)[0] == "low rank"


def affine(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round to nearest in groups of 32, and half a step at each value."""
    groups = values.reshape(-1, 32)
    low, high = groups.amin(dim=1, keepdim=True), groups.amax(dim=1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    back = low + step * ((groups - low) / step).round()
    return back.view(values.shape), (step / 2).expand(groups.shape).reshape(values.shape)


def quantised(base: Tensor, tuned: Tensor, bits: int | None, after: int | None) -> Row:
    """A row of two sides of which either may be quantised."""
    values: list[Tensor] = []
    codecs: list[Quantised | None] = []
    for side, width in ((base, bits), (tuned, after)):
        coded, steps = (side, None) if width is None else affine(side, width)
        values.append(coded)
        codecs.append(None if steps is None else Quantised(f"int{width}", steps))
    pair = pair_of(values[0], values[1], "h.0.attn.q_proj.weight")
    whole = Pair(pair.view, pair.base, pair.tuned, "F32", codecs[0], codecs[1])
    return row_of(Diff(), whole)


@pytest.mark.parametrize("kind", ["even", "row"])
@pytest.mark.parametrize(("bits", "after"), [(8, 8), (4, 4), (None, 4), (8, 4), (4, None)])
def test_quantised_sides(kind: str, bits: int | None, after: int | None) -> None:
    base = base_of(kind, 256, 256).to(BF16).float()
    row = quantised(base, base + low(base, 8, 0.3), bits, after)
    assert (row.values["delta_kind"], row.values["delta_rank"]) == ("low rank", 8)
    told = reading(row)
    assert told.startswith("The change looks like a rank-8 LoRA on attention of 1 layer")
    if row.values["delta_grid"] != "F32":
        assert told.endswith(f", above the rounding of {row.values['delta_grid']}.")
    faint = quantised(base, base + low(base, 8, 0.0005), bits, after)
    if bits != after:
        assert reading(faint) == (
            "The change is quantising alone, or too small to show beside it (1 of 1 matrix)."
        )
    else:
        assert faint.values["delta_kind"] in {"unchanged", "unresolved", "at least"}


def test_a_full_update_stands_above_quantising() -> None:
    base = base_of("even", 256, 256)
    row = quantised(base, base + 0.5 * base_of("even", 256, 256, 9), 8, 8)
    assert row.values["delta_kind"] == "full rank"


def test_rows_of_both_kinds_of_storing() -> None:
    base = base_of("even", 64, 64)
    both = [measured(base, base.to(BF16)), quantised(base, base, None, 4)]
    assert reading(*both) == (
        "The change is rounding and quantising alone, or too small to show beside it "
        "(2 of 2 matrices)."
    )
    lora = measured(base, base + low(base, 2, 0.1))
    assert reading(lora, *both, both[1]) == (
        "The change looks like a rank-2 LoRA on attention of 1 layer (1 of 4 matrices). 1 more "
        "matrix was rounded and not changed otherwise. 2 more matrices were quantised and show "
        "no other change."
    )


def test_a_change_of_values_computed_from_the_base() -> None:
    """An adapter's own values were never stored: what the base rounds off is no noise."""
    base = base_of("even", 128, 128).to(BF16)
    pair = pair_of(base, base.float() + 1e-5 * base_of("even", 128, 128, 4))
    formed = Pair(pair.view, pair.base, pair.tuned, "F32", formed="lengths")
    assert row_of(Diff(), formed).values["delta_kind"] == "scaled rows"
    assert not math.isnan(float(row_of(Diff(), formed).number("delta_norm") or 0.0))


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_scaled_rows_are_no_full_fine_tune_for_sure(dtype: torch.dtype) -> None:
    base = base_of("even", 256, 256).to(dtype)
    turned = base.float() + low(base.float(), 8, 0.1)
    source = torch.Generator().manual_seed(6)
    lengths = base.float().norm(dim=1, keepdim=True)
    lengths = lengths * (1.0 + 0.03 * torch.randn(256, 1, generator=source))
    dora = (turned / turned.norm(dim=1, keepdim=True) * lengths).to(dtype)
    large = base.clone()
    large[7] *= 50.0
    longer = large.clone()
    longer[7] *= 1.01
    longer[:, 1:] += (0.002 * torch.randn(256, 255, generator=source)).to(dtype)
    for old, tuned in ((base, dora), (large, longer)):
        row = measured(old, tuned)
        assert row.values["delta_kind"] == "scaled rows"
        assert reading(row) == (
            "The change looks like full fine-tuning or a LoRA that scales rows (DoRA) on "
            "attention of 1 layer (1 of 1 matrix)."
        )
    whole = base.float() + full(base.float(), 0.1, 0.5)
    assert said(base, whole.to(dtype))[0] == "full rank"


def test_a_quantiser_that_clips_one_sign_changes_nothing_else() -> None:
    """Q4_0 has codes from -8 to 7: what lies above 7.5 steps is clipped, here a few percent."""
    base = base_of("even", 256, 256)
    groups = base.reshape(-1, 32)
    largest = groups.gather(1, groups.abs().argmax(dim=1, keepdim=True))
    step = largest / -8.0
    coded = ((groups / step).round().clamp(-8, 7) * step).view_as(base)
    steps = (step.abs() / 2).expand_as(groups).reshape(base.shape)
    assert float((coded - base).abs().gt(1.6 * steps).float().mean()) > 0.001
    pair = pair_of(base, coded)
    whole = Pair(pair.view, base, coded, "F32", tuned_codec=Quantised("q4", steps))
    assert row_of(Diff(), whole).values["delta_kind"] == "quantising"
