"""Models permuted at random, trained on, or drawn anew; every number against dense NumPy."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from examples import write_model
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.kernels.matching import assigned, of_heads
from spectra.work import Result

WIDTH, UNITS, HEADS, KEYS, SIZE, LAYERS = 32, 48, 6, 3, 4, 2
CONFIG = json.dumps({
    "model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS, "head_dim": SIZE, "num_hidden_layers": LAYERS,
})  # fmt: skip
Tensors = dict[str, Tensor]


def drawn(seed: int) -> Tensors:
    """A model of grouped queries and gated units."""
    source = torch.Generator().manual_seed(seed)
    shapes = {"self_attn.q_proj": (HEADS * SIZE, WIDTH), "self_attn.k_proj": (KEYS * SIZE, WIDTH),
              "self_attn.v_proj": (KEYS * SIZE, WIDTH), "self_attn.o_proj": (WIDTH, HEADS * SIZE),
              "mlp.gate_proj": (UNITS, WIDTH), "mlp.up_proj": (UNITS, WIDTH),
              "mlp.down_proj": (WIDTH, UNITS)}  # fmt: skip
    tensors = {"model.embed_tokens.weight": torch.randn(50, WIDTH, generator=source)}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            made = torch.randn(shape, generator=source)
            tensors[f"model.layers.{layer}.{name}.weight"] = made
    return tensors


def heads_at_random(source: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of heads that keeps together those that share keys and values."""
    share = HEADS // KEYS
    return np.concatenate([group * share + source.permutation(share)
                           for group in source.permutation(KEYS)])  # fmt: skip


def permuted(tensors: Tensors, seed: int) -> tuple[Tensors, Mapping[str, NDArray[np.int64]]]:
    """Return the same network with units and heads in another order, and the way back."""
    source, found, orders = np.random.default_rng(seed), dict(tensors), {}
    for layer in range(LAYERS):
        units, heads = source.permutation(UNITS), heads_at_random(source)
        keys = heads[:: HEADS // KEYS] // (HEADS // KEYS)
        own = f"model.layers.{layer}."
        for role, order, size in (("q", heads, SIZE), ("k", keys, SIZE), ("v", keys, SIZE)):
            lines = (order[:, None] * size + np.arange(size)).ravel()
            found[f"{own}self_attn.{role}_proj.weight"] = \
                tensors[f"{own}self_attn.{role}_proj.weight"][lines].contiguous()  # fmt: skip
        lines = (heads[:, None] * SIZE + np.arange(SIZE)).ravel()
        name = f"{own}self_attn.o_proj.weight"
        found[name], orders[name] = tensors[name][:, lines].contiguous(), np.argsort(heads)
        for name in (f"{own}mlp.gate_proj.weight", f"{own}mlp.up_proj.weight"):
            found[name] = tensors[name][units].contiguous()
        name = f"{own}mlp.down_proj.weight"
        found[name], orders[name] = tensors[name][:, units].contiguous(), np.argsort(units)
    return found, orders


def written(folder: Path, tensors: Tensors) -> Path:
    return write_model(folder, tensors, CONFIG)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Mapping[str, NDArray[np.int64]], Tensors, Tensors]:
    first = drawn(1)
    second, orders = permuted(first, 7)
    return written(tmp_path / "a", first), written(tmp_path / "b", second), orders, first, second


def row(result: Result, name: str) -> Any:  # noqa: ANN401 - its values, as they come
    return next(one.values for one in result.rows if one.matrix.endswith(name))


def test_a_permuted_model_comes_back_exactly(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, second, orders, *_ = models
    result = spectra.match(first, second, save_permutation=tmp_path / "order.safetensors",
                           all_directions=True)  # fmt: skip
    assert result.summary["relation"] == "the same up to a permutation"
    reading = str(result.summary["reading"])
    assert reading.startswith("The two models are the same up to a permutation: units or heads ")
    assert "stand in another order in 4 of 4 modules." in reading
    written = (tmp_path / "order.safetensors").read_bytes()
    spectra.match(first, second, save_permutation=tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == written
    assert b'{"__metadata__":{"spectra":"match","first":' in written  # in the order told
    found = load_file(tmp_path / "order.safetensors")
    assert found.keys() == orders.keys()
    for name, order in orders.items():
        assert found[name].tolist() == order.tolist(), name
    for one in result.rows:
        for key in ("r", "r_top", "weighted", "weighted_top", "overlap"):
            assert one.number(f"{key}_after") == pytest.approx(1.0, abs=1e-6), key
        if one.place.role != "embed":
            assert (one.number("weighted_before") or 0.0) < 0.5
    again = spectra.match(
        first, second, permutation=tmp_path / "order.safetensors", all_directions=True
    )
    assert [one.values for one in again.rows] == [one.values for one in result.rows]
    assert again.settings["permutation"] == str(tmp_path / "order.safetensors")


def test_what_only_one_model_holds_is_not_called_the_same(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, *_, tensors, _ = models
    less = {name: one for name, one in tensors.items() if "mlp" not in name}
    half = write_model(tmp_path / "half", less, CONFIG)
    for pair, sides in (((first, half), (6, 0)), ((half, first), (0, 6))):
        result = spectra.match(*pair)
        assert result.summary["relation"] == "the same in part"
        reading = str(result.summary["reading"])
        assert reading.startswith("What both models hold is the same, and in the same order.")
        assert f"6 of {len(tensors)} matrices of the " in reading
        told: Any = result.summary["unpaired"]
        assert (told["base"]["unpaired"], told["tuned"]["unpaired"]) == sides
    assert spectra.match(first, first).summary["relation"] == "the same"


def test_a_factor_is_told_which_no_cosine_sees(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, _, _, tensors, other = models
    attention = [name for name in tensors if "self_attn" in name]
    for at, (weights, verdict) in enumerate((
        (tensors, "the same up to a factor"),
        (other, "the same up to a permutation and a factor"),
    )):  # fmt: skip
        twice = {name: 2.0 * one if name in attention else one for name, one in weights.items()}
        result = spectra.match(first, written(tmp_path / str(at), twice))
        reading = str(result.summary["reading"])
        assert result.summary["relation"] == verdict
        assert reading.startswith(f"The two models are {verdict}")
        assert "8 matrices are multiples of the first model's, such as model.layers.0." in reading
        assert ", 2 times as large." in reading
    near = {name: one.bfloat16().float() for name, one in tensors.items()}
    assert spectra.match(first, written(tmp_path / "near", near)).summary["relation"] == "the same"


def sums(
    one: NDArray[Any], other: NDArray[Any], gamma: float, k: int
) -> tuple[float, float, float, float]:
    """R by its double sum, of all and of the leading, weighted, and the overlap of k."""
    (u, s, v), (x, t, y) = (np.linalg.svd(m, full_matrices=False) for m in (one, other))
    a, b = (int((values >= gamma * values[0]).sum()) for values in (s, t))
    pairs = [((u[:, i] @ x[:, j]) * (v[i] @ y[j]), i, j)
             for i, j in itertools.product(range(len(s)), range(len(t)))]  # fmt: skip
    every = sum(value for value, *_ in pairs) / len(s)
    top = sum(value for value, i, j in pairs if i < a and j < b) / np.sqrt(a * b)
    weighted = sum(value * s[i] * t[j] for value, i, j in pairs if i < a and j < b)
    weighted /= np.linalg.norm(s[:a]) * np.linalg.norm(t[:b])
    sides = (u[:, :k].T @ x[:, :k], v[:k] @ y[:k].T)
    return every, top, weighted, sum((side**2).sum() for side in sides) / (2 * k)


def test_every_number_is_the_double_sum_over_singular_vectors(tmp_path: Path) -> None:
    tensors = drawn(1)
    source = torch.Generator().manual_seed(3)
    tuned = {name: one + 0.4 * torch.randn(one.shape, generator=source)
             for name, one in tensors.items()}  # fmt: skip
    moved, orders = permuted(tuned, 5)
    result = spectra.match(
        written(tmp_path / "a", tensors), written(tmp_path / "b", moved), gamma=0.5, k=4,
        all_directions=True,
    )  # fmt: skip
    assert result.summary["relation"] == "related up to a permutation"
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
                 "model.layers.1.self_attn.k_proj.weight"):  # fmt: skip
        told = row(result, name)
        one = tensors[name].double().numpy()
        for when, other in (("before", moved[name]), ("after", tuned[name])):
            matrix = other.double().numpy()
            expected = sums(one, matrix, 0.5, 4)
            keys = (f"r_{when}", f"r_top_{when}", f"weighted_top_{when}", f"overlap_{when}")
            assert [told[key] for key in keys] == pytest.approx(expected, abs=1e-7), name
            cosine = (one * matrix).sum() / np.linalg.norm(one) / np.linalg.norm(matrix)
            assert told[f"weighted_{when}"] == pytest.approx(cosine, abs=1e-12)
        values = np.linalg.svd(one, compute_uv=False)
        assert told["top_rank"] == (values >= 0.5 * values[0]).sum()
    assert orders  # what was undone above: the tuned model stands in the first one's order


@pytest.mark.parametrize("seed", range(6))
def test_models_drawn_anew_are_strangers(seed: int, tmp_path: Path) -> None:
    first, second = (written(tmp_path / str(one), drawn(one)) for one in (10 + seed, 50 + seed))
    result = spectra.match(first, second)
    assert result.summary["relation"] == "unrelated", result.summary["reading"]
    assert result.summary["modules_unrelated"] == 4
    reading = str(result.summary["reading"])
    assert "brings them closer than chance does" in reading
    assert "are related" not in reading


def test_a_fine_tune_stays_in_its_order(tmp_path: Path) -> None:
    base = drawn(2)
    source = torch.Generator().manual_seed(4)
    tuned = {name: one + 0.1 * torch.randn(one.shape, generator=source)
             for name, one in base.items()}  # fmt: skip
    first, second = written(tmp_path / "a", base), written(tmp_path / "b", tuned)
    result = spectra.match(first, second)
    assert result.summary["relation"] == "related"
    assert result.summary["permuted"] == 0
    assert "their units stand in the same order, as those of a fine-tune do" in str(
        result.summary["reading"]
    )
    assert row(result, "0.mlp.up_proj.weight")["r_after"] is None
    assert spectra.match(first, first).summary["relation"] == "the same"


def test_half_precision_is_still_the_same_and_another_embedding_is_told(tmp_path: Path) -> None:
    base = drawn(2)
    moved, _ = permuted(base, 3)
    half = {name: one.bfloat16() for name, one in moved.items()}
    half["model.embed_tokens.weight"] = torch.randn(50, WIDTH).bfloat16()
    result = spectra.match(written(tmp_path / "a", base), written(tmp_path / "b", half))
    assert result.summary["relation"] == "the same up to a permutation"
    assert "1 matrix beside them differs, such as model.embed_tokens.weight." in str(
        result.summary["reading"]
    )


def test_some_layers_of_another_model_are_told(tmp_path: Path) -> None:
    base, other = drawn(2), drawn(8)
    mixed = {name: other[name] if ".1." in name else one for name, one in base.items()}
    result = spectra.match(written(tmp_path / "a", base), written(tmp_path / "b", mixed))
    assert result.summary["relation"] == "related in part"
    assert "of 4 modules 2 same and 2 unrelated." in str(result.summary["reading"])


def test_matrices_of_no_module_are_related_in_part(tmp_path: Path) -> None:
    base = {f"net.{index}.weight": torch.eye(20) for index in range(3)}
    other = {**base, "net.1.weight": torch.eye(20).roll(1, 0)}
    result = spectra.match(written(tmp_path / "a", base), written(tmp_path / "b", other))
    assert (result.summary["relation"], result.summary["modules"]) == ("related in part", 0)
    assert "of 3 matrices 2 same and 1 unrelated." in str(result.summary["reading"])


@pytest.mark.parametrize("seed", range(8))
def test_assignments_are_the_best_of_all(seed: int) -> None:
    source = np.random.default_rng(seed)
    score = source.standard_normal((6, 6))
    best = max(itertools.permutations(range(6)), key=lambda p: sum(score[range(6), p]))
    assert tuple(assigned(torch.from_numpy(score)).tolist()) == best
    keys = source.standard_normal((3, 3))
    every = [
        np.concatenate([[2 * group + one for one in within]
                        for group, within in zip(groups, inner, strict=True)])
        for groups in itertools.permutations(range(3))
        for inner in itertools.product(itertools.permutations(range(2)), repeat=3)
    ]  # fmt: skip

    def reached(order: NDArray[np.int64]) -> float:
        return float(score[range(6), order].sum() + keys[range(3), order[::2] // 2].sum())

    found, total = of_heads(torch.from_numpy(score), torch.from_numpy(keys))
    assert total == pytest.approx(max(map(reached, every)))
    assert reached(found.numpy()) == pytest.approx(total)


def test_layouts_that_store_several_matrices_in_one(tmp_path: Path) -> None:
    """GPT-2: fused qkv, stored [in, out]; the units and heads of its parts move together."""
    source = torch.Generator().manual_seed(1)
    shapes = {"attn.c_attn": (16, 48), "attn.c_proj": (16, 16), "mlp.c_fc": (16, 40),
              "mlp.c_proj": (40, 16)}  # fmt: skip
    first = {f"h.0.{name}.weight": torch.randn(shape, generator=source)
             for name, shape in shapes.items()}  # fmt: skip
    heads, units = torch.tensor([2, 0, 3, 1]), torch.randperm(40, generator=source)
    lines = (heads[:, None] * 4 + torch.arange(4)).flatten()
    fused = torch.cat([lines, 16 + lines, 32 + lines])
    second = {
        "h.0.attn.c_attn.weight": first["h.0.attn.c_attn.weight"][:, fused].contiguous(),
        "h.0.attn.c_proj.weight": first["h.0.attn.c_proj.weight"][lines].contiguous(),
        "h.0.mlp.c_fc.weight": first["h.0.mlp.c_fc.weight"][:, units].contiguous(),
        "h.0.mlp.c_proj.weight": first["h.0.mlp.c_proj.weight"][units].contiguous(),
    }
    config = json.dumps({"model_type": "gpt2", "n_head": 4, "n_embd": 16})
    result = spectra.match(
        write_model(tmp_path / "a", first, config), write_model(tmp_path / "b", second, config)
    )
    assert result.summary["relation"] == "the same up to a permutation"
    assert len(result.rows) == 6
    assert all((one.number("overlap_after") or 0.0) > 1 - 1e-6 for one in result.rows)


def test_experts_are_modules_of_their_own(tmp_path: Path) -> None:
    source = torch.Generator().manual_seed(1)
    shapes = {"gate_proj": (24, 8), "up_proj": (24, 8), "down_proj": (8, 24)}
    first = {f"model.layers.0.mlp.experts.{expert}.{name}.weight":
             torch.randn(shape, generator=source)
             for expert in range(2) for name, shape in shapes.items()}  # fmt: skip
    units = torch.randperm(24, generator=source)
    second = {
        name: one if ".1." in name else one[:, units].contiguous() if "down" in name
        else one[units].contiguous() for name, one in first.items()
    }  # fmt: skip
    config = '{"model_type": "qwen3_moe"}'
    result = spectra.match(
        write_model(tmp_path / "a", first, config), write_model(tmp_path / "b", second, config)
    )
    assert result.summary["modules"] == 2
    assert result.summary["permuted"] == 1
    assert result.summary["relation"] == "the same up to a permutation"


def test_what_is_no_permutation_is_refused(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, second, *_ = models
    down, o = "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.o_proj.weight"
    path = tmp_path / "order.safetensors"
    for tensors, told in (
        ({down: torch.zeros(UNITS, dtype=torch.int64)}, "is no permutation. Expected whole"),
        ({down: torch.arange(UNITS - 1)}, "is no permutation"),
        ({down: torch.arange(UNITS).float()}, "is no permutation"),
        ({"model.layers.0.mlp.down": torch.arange(UNITS)}, "no matrix that reads units"),
        ({o: torch.tensor([0, 2, 1, 3, 4, 5])}, "parts heads that share keys and values"),
    ):
        save_file(tensors, path)
        with pytest.raises(UsageError, match=told):
            spectra.match.plan(first, second, permutation=path)
    path.write_text("nothing")
    with pytest.raises(UsageError, match="cannot be read as permutations"):
        spectra.match.plan(first, second, permutation=path)
    with pytest.raises(UsageError, match="cannot be read as permutations"):
        spectra.match.plan(first, second, permutation=tmp_path / "nope.safetensors")
    with pytest.raises(UsageError, match=r"should end in \.safetensors"):
        spectra.match.plan(first, second, save_permutation=tmp_path / "order.json")
    with pytest.raises(UsageError, match="gamma"):
        spectra.match.plan(first, second, gamma=2.0)


def test_models_of_another_shape_and_broken_ones_are_told(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, _, _, tensors, _ = models
    broken = dict(tensors)
    broken["model.layers.0.mlp.up_proj.weight"] = torch.full((UNITS, WIDTH), torch.nan)
    result = spectra.match(first, written(tmp_path / "nan", broken))
    assert sum(one.status == "non-finite" for one in result.rows) == 3
    assert "NaN" in str(result.summary["reading"])
    other = {name: torch.zeros(3, 5) for name in tensors}
    with pytest.raises(NothingToAnalyseError, match="no matrix is in both"):
        spectra.match(first, written(tmp_path / "other", other))
    zeros = {name: torch.zeros_like(one) for name, one in tensors.items()}
    none = spectra.match(first, written(tmp_path / "zeros", zeros))
    assert none.summary["relation"] == "nothing"
    told = f"No matrix could be compared. {len(tensors)} are of zeros alone in one model or both"
    assert str(none.summary["reading"]).startswith(told)


def test_a_matrix_is_told_what_it_holds_and_others_whose_that_is(
    models: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    first, _, _, tensors, _ = models
    sick = {name: one.clone() for name, one in tensors.items()}
    k, up, down = (
        f"model.layers.{name}_proj.weight" for name in ("1.self_attn.k", "0.mlp.up", "0.mlp.down")
    )
    sick[k][2, 3], sick[up][5] = torch.nan, torch.inf
    second = written(tmp_path / "sick", sick)
    one = "1 NaN, the first at [2, 3]"
    for pair in ((first, second), (second, first), (first, second)):  # the last from the store
        result = spectra.match(*pair)
        errors = {row.matrix: row.error for row in result.rows if row.error}
        assert len(errors) == sum(row.status == "non-finite" for row in result.rows) == 7
        assert errors.pop(k) == one
        assert errors.pop(up) == f"{WIDTH} Inf, the first at [5, 0]"
        for name, error in errors.items():
            whose = f"{k} of its module holds {one}" if "attn" in name else \
                f"{up} of its module holds {WIDTH} Inf, the first at [5, 0]"  # fmt: skip
            assert error == whose, name
        assert result.summary["non_finite"] == 2
        assert "2 hold NaN or Inf, and 5 more of their modules could not be compared for it." in \
            str(result.summary["reading"])  # fmt: skip
    sick[down][0, 0] = torch.nan
    result = spectra.match(first, written(tmp_path / "both", sick), layers="0")
    errors = {row.matrix: row.error for row in result.rows if row.error}
    assert errors[down] == "1 NaN, the first at [0, 0]"
    gate = errors["model.layers.0.mlp.gate_proj.weight"]
    assert gate == f"{up} and {down} of its module hold NaN or Inf"


def test_zeros_are_counted_and_leave_nothing(models: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first, _, _, tensors, _ = models
    some = dict(tensors)
    name = "model.layers.1.self_attn.k_proj.weight"
    some[name] = torch.zeros_like(some[name])
    reading = str(spectra.match(first, written(tmp_path / "some", some)).summary["reading"])
    assert "1 is of zeros alone in one model or both, and has no cosine." in reading
    assert "zeros" not in str(spectra.match(first, first).summary["reading"])
    zeros = written(tmp_path / "zeros", {name: torch.zeros_like(one) for name, one in some.items()})
    order = tmp_path / "order.safetensors"
    for pair in ((first, zeros), (zeros, zeros)):
        result = spectra.match(*pair, save_permutation=order)
        assert result.summary["relation"] == "nothing"
        assert not order.exists()
