"""Several fine-tunes of one base against naive float64 twins, and PEFT's products and merges."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from adapters import save
from lowrank.nets import adapter, merged, net
from spectra.analyzers import Diff, Measurement
from spectra.errors import PairingError, UsageError
from spectra.matrices import Pair

Deltas = dict[str, Tensor]
K = 4


def full(model: torch.nn.Module, folder: Path, seed: int, size: float = 0.05) -> Path:
    """A full fine-tune: every matrix moves."""
    torch.manual_seed(seed)
    state = {
        name: value + size * torch.randn_like(value) for name, value in model.state_dict().items()
    }
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(net(), tmp_path / "base")


def deltas(folder: Path) -> Deltas:
    """What a folder changes in each tensor, by what PEFT merges or by subtraction, in float64."""
    before = net().state_dict()
    if (folder / "adapter_config.json").is_file():
        after = merged(net(), folder)
    else:
        after = load_file(folder / "model.safetensors")
    return {name: (after[name].double() - value.double()).flatten(1)
            for name, value in before.items() if value.ndim > 1}  # fmt: skip


def truncated(delta: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vt = torch.linalg.svd(delta, full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank].mT


def share(value: float) -> Any:  # noqa: ANN401 - pytest's own
    return pytest.approx(value, abs=2e-6)


def rank_of(delta: Tensor) -> int:
    return int(torch.linalg.matrix_rank(delta, rtol=1e-5))


def agrees(result: spectra.Result, folders: list[Path], rank: int) -> None:  # noqa: PLR0915 - all of it
    """Compare everything that is told of matrices and of the model with its definition."""
    found, weights = [deltas(folder) for folder in folders], net().state_dict()
    summary: Any = result.summary
    names = [one["model"] for one in summary["updates"]]
    seen = 0
    lost, total = [0.0] * len(folders), 0.0
    for row in result.rows:
        own = [one[row.matrix] for one in found]
        changed = [place for place, delta in enumerate(own) if delta.norm() > 1e-6]
        assert row.values["changed_by"] == len(changed)
        seen += bool(changed)
        pairs: Any = row.values["pairs"] or ()
        told = {(one["a"], one["b"]): one for one in pairs}
        assert set(told) == {(names[i], names[j]) for i, j in itertools.combinations(changed, 2)}
        for i, j in itertools.combinations(changed, 2):
            pair = told[names[i], names[j]]
            a, b = own[i], own[j]
            size = float(a.norm() * b.norm())
            assert pair["task_cosine"] == share(float((a * b).sum()) / size)
            start = weights[row.matrix].double().flatten(1)
            shrunk = float((a * start).sum() * (b * start).sum() / start.square().sum())
            assert pair["cosine_base"] == share(shrunk / size)
            assert pair["cosine_chance"] == share(float((a * b).norm()) / size)
            ka, kb = (min(K, rank_of(one)) for one in (a, b))
            (ua, _, va), (ub, _, vb) = truncated(a, ka), truncated(b, kb)
            assert pair["overlap_left"] == share(float((ua.mT @ ub).square().sum()) / min(ka, kb))
            assert pair["overlap_right"] == share(float((va.mT @ vb).square().sum()) / min(ka, kb))
            assert pair["overlap_left_chance"] == max(ka, kb) / len(a)
            assert pair["overlap_right_chance"] == max(ka, kb) / a.shape[1]
        if not changed:
            continue
        stack = torch.stack([own[place] for place in changed])
        stack[stack.abs() < 1e-12] = 0.0
        summed = stack.sum(dim=0)
        assert row.number("energy_ratio") == share(
            float(summed.square().sum() / stack.square().sum())
        )
        if len(changed) > 1:
            opposed = (stack.amax(0) > 0) & (stack.amin(0) < 0)
            shared = (stack != 0).sum(0) > 1
            assert row.number("sign_conflict") == pytest.approx(
                float(opposed.sum() / shared.sum()), abs=1e-2
            )
            elected = summed.sign()  # TIES: the sign whose entries sum to more
            dropped = (stack.abs() * (stack.sign() * elected < 0)).sum()
            assert row.number("sign_conflict_weight") == share(float(dropped / stack.abs().sum()))
        u, s, v = truncated(summed, rank)
        missed = float((summed - u @ s.diag() @ v.mT).square().sum())
        assert row.number("merged_loss") == pytest.approx(
            math.sqrt(missed / float(summed.square().sum())), abs=2e-5
        )
        total += missed
        each: Any = row.values["updates"]
        updates = {one["model"]: one for one in each}
        for place in changed:
            off = own[place] - u @ (u.mT @ own[place] @ v) @ v.mT
            told_loss = updates[names[place]]["merged_loss"]
            assert told_loss == pytest.approx(float(off.norm() / own[place].norm()), abs=2e-5)
            lost[place] += float(off.square().sum())
    assert seen
    matrices = [row.matrix for row in result.rows]
    vectors = [torch.cat([one[name].flatten() for name in matrices]) for one in found]
    for pair in summary["pairs"]:
        a, b = (vectors[names.index(pair[key])] for key in ("a", "b"))
        assert pair["task_cosine"] == share(float(a @ b / a.norm() / b.norm()))
    for place, one in enumerate(summary["updates"]):
        norm = float(vectors[place].norm())
        assert one["delta_norm"] == pytest.approx(norm, rel=1e-5)
        assert one["merged_loss"] == pytest.approx(math.sqrt(lost[place]) / norm, abs=2e-5)


CASES = {
    "adapters": lambda model, path: [
        adapter(model, path / "a", 1), adapter(model, path / "b", 2, r=3, use_rslora=True),
        adapter(model, path / "c", 3, target_modules=["q_proj", "embed"]),
    ],
    "checkpoints": lambda model, path: [
        full(model, path / "a", 1), full(model, path / "b", 2, 0.2),
    ],
    "mixed": lambda model, path: [
        adapter(model, path / "a", 1), full(model, path / "b", 2),
        adapter(model, path / "c", 3, r=2),
    ],
    "with lengths": lambda model, path: [
        adapter(model, path / "a", 1, use_dora=True, target_modules=["q_proj", "up_proj"]),
        adapter(model, path / "b", 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_all_agrees_with_its_definition(tmp_path: Path, base: Path, case: str) -> None:
    folders = CASES[case](net(), tmp_path)
    agrees(spectra.diff(base, folders, k=K, merged_rank=3), folders, 3)


def test_adapters_agree_with_pefts_own_products(tmp_path: Path) -> None:
    """get_delta_weight of two adapters, and what add_weighted_adapter cuts their sum to."""
    model = net()
    targets = ["q_proj", "up_proj"]
    folders = [adapter(model, tmp_path / name, seed, target_modules=targets)
               for seed, name in enumerate("ab")]  # fmt: skip
    base = save(model, tmp_path / "base")
    wrapped: Any = peft.PeftModel.from_pretrained(net(), str(folders[0]), adapter_name="a")
    wrapped.load_adapter(str(folders[1]), adapter_name="b")
    wrapped.add_weighted_adapter(["a", "b"], [1.0, 1.0], "ab", combination_type="svd", svd_rank=3)
    rows = {row.matrix: row for row in spectra.diff(base, folders, merged_rank=3).rows}
    layers = {name.removeprefix("base_model.model.") + ".weight": layer for name, layer in
              wrapped.named_modules() if hasattr(layer, "get_delta_weight")}  # fmt: skip
    assert len(layers) == 4
    for name, layer in layers.items():
        a, b, cut = (layer.get_delta_weight(one).double() for one in ("a", "b", "ab"))
        row = rows[name]
        cosine = float((a * b).sum() / a.norm() / b.norm())
        assert row.number("task_cosine") == pytest.approx(cosine, abs=1e-6)
        loss = float((a + b - cut).norm() / (a + b).norm())
        assert row.number("merged_loss") == pytest.approx(loss, abs=1e-5)


def likeness(result: spectra.Result) -> list[str]:
    return [one["likeness"] for one in result.summary["pairs"]]


def test_an_adapter_twice_is_one_change_and_two_random_ones_are_not_related(
    tmp_path: Path, base: Path
) -> None:
    model = net()
    one, other = adapter(model, tmp_path / "a", 1), adapter(model, tmp_path / "b", 2)
    found = spectra.diff(base, [one, one, other])
    assert likeness(found) == ["same", "chance", "chance"]
    assert found.summary["energy_ratio"] > 1.5
    text = str(found.summary["reading"])
    assert "are the same change" in text
    assert "are no more alike than unrelated changes" in text
    for seeds in range(3, 9):
        pair = [full(model, tmp_path / f"{seeds}-{i}", 10 * seeds + i) for i in range(2)]
        assert likeness(spectra.diff(base, pair)) == ["chance"], seeds


def test_a_scaled_copy_and_an_opposite_one_are_told(tmp_path: Path, base: Path) -> None:
    one = adapter(net(), tmp_path / "a", 1)
    for name, factor in (("half", 0.5), ("minus", -1.0)):
        state = load_file(one / "adapter_model.safetensors")
        state = {key: value * (factor if "lora_B" in key or "embedding_B" in key else 1.0)
                 for key, value in state.items()}  # fmt: skip
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_bytes(
            (one / "adapter_config.json").read_bytes()
        )
    scaled = spectra.diff(base, [one, tmp_path / "half"])
    assert likeness(scaled) == ["parallel"]
    assert "in one direction, the second 0.5 times as far" in str(scaled.summary["reading"])
    against = spectra.diff(base, [one, tmp_path / "minus"])
    assert likeness(against) == ["opposite"]
    assert against.summary["energy_ratio"] == pytest.approx(0.0, abs=1e-12)
    assert against.summary["sign_conflict"] == 1.0
    assert against.summary["sign_conflict_weight"] == pytest.approx(0.5)


def test_what_rounding_the_base_does_to_both_relates_nothing(tmp_path: Path, base: Path) -> None:
    """Two unrelated updates of an F32 base, both stored in BF16: most of each is one rounding."""
    state = load_file(base / "model.safetensors")
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        moved = {name: (value + 1e-4 * torch.randn_like(value)).to(torch.bfloat16)
                 for name, value in state.items()}  # fmt: skip
        folder = tmp_path / str(seed)
        folder.mkdir()
        save_file(moved, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        folders.append(folder)
    found = spectra.diff(base, folders)
    (pair,) = found.summary["pairs"]
    assert pair["task_cosine"] > 0.5  # as it is defined
    assert pair["likeness"] == "unknown"
    assert "how alike training made them is not known" in str(found.summary["reading"])
    # Of one that is stored as the base is, rounding says nothing.
    third = full(net(), tmp_path / "third", 7)
    assert likeness(spectra.diff(base, [folders[0], third])) == ["chance"]


def test_what_both_lack_of_the_base_relates_nothing(tmp_path: Path, base: Path) -> None:
    """Weight decay in both, and two models that were never trained from this base."""
    folders = [full(net(), tmp_path / name, seed) for seed, name in enumerate("ab")]
    for folder in folders:
        state = load_file(folder / "model.safetensors")
        before = net().state_dict()
        save_file({name: value - 0.3 * before[name] for name, value in state.items()},
                  folder / "model.safetensors")  # fmt: skip
    found = spectra.diff(base, folders)
    (pair,) = found.summary["pairs"]
    assert pair["task_cosine"] > 0.3
    assert pair["likeness"] == "base"
    assert "are alike by how much of the base they keep alone" in str(found.summary["reading"])
    others = [save(net(seed), tmp_path / f"other-{seed}") for seed in (5, 6)]
    assert likeness(spectra.diff(base, others)) == ["base"]


def test_what_one_alone_has_is_said(tmp_path: Path, base: Path) -> None:
    whole = full(net(), tmp_path / "a", 1)
    state = load_file(whole / "model.safetensors")
    folder = tmp_path / "b"
    folder.mkdir()
    del state["head.weight"]
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    few = adapter(net(), tmp_path / "c", 3, target_modules=["q_proj"])
    found = spectra.diff(base, [whole, folder, few])
    row = next(row for row in found.rows if row.matrix == "head.weight")
    told: Any = row.values["updates"]
    assert [one["model"] for one in told] == ["a", "c"]
    assert row.values["changed_by"] == 1
    assert [(item.tensor, item.model) for item in found.skipped if item.tensor == "head.weight"] \
        == [("head.weight", "b")]  # fmt: skip
    assert "Matrices that one alone changes: 1 by a." in str(found.summary["reading"])
    # Of what one lacks nothing counts, of neither.
    names = [row.matrix for row in found.rows if row.matrix != "head.weight"]
    a, b = (torch.cat([deltas_of(path, base)[name].flatten() for name in names])
            for path in (whole, folder))  # fmt: skip
    pair = next(one for one in found.summary["pairs"] if (one["a"], one["b"]) == ("a", "b"))
    assert pair["task_cosine"] == share(float(a @ b / a.norm() / b.norm()))


def deltas_of(folder: Path, base: Path) -> Deltas:
    before = load_file(base / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    return {name: after[name].double() - before[name].double() for name in after}


def test_vocabularies_of_other_sizes_are_compared_where_all_have_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = {"model.embed_tokens.weight": torch.randn(30, 8), "model.layers.0.mlp.up_proj.weight":
            torch.randn(12, 8)}  # fmt: skip
    folders = []
    for name, rows in (("base", 30), ("a", 33), ("b", 26), ("c", 30)):
        state = {key: value + (name != "base") * 0.1 * torch.randn_like(value)
                 for key, value in base.items()}  # fmt: skip
        table = state["model.embed_tokens.weight"]
        state["model.embed_tokens.weight"] = torch.cat([table, torch.randn(3, 8)])[:rows]
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        save_file(state, folders[-1] / "model.safetensors")
        (folders[-1] / "config.json").write_text("{}")
    before, *after = (load_file(one / "model.safetensors") for one in folders)
    found = spectra.diff(folders[0], folders[1:])
    row = next(row for row in found.rows if "embed" in row.matrix)
    assert row.place.rows == 26
    name = "model.embed_tokens.weight"
    own = [one[name][:26].double() - before[name][:26].double() for one in after]
    pairs: Any = row.values["pairs"]
    for pair, (a, b) in zip(pairs, itertools.combinations(own, 2), strict=True):
        assert pair["task_cosine"] == share(float((a * b).sum() / a.norm() / b.norm()))


def test_a_second_run_measures_nothing_and_one_more_model_only_that(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [full(net(), tmp_path / name, seed) for seed, name in enumerate("abc")]
    first = spectra.diff(base, folders[:2])
    counts: list[str] = []
    real = Diff.measure

    def measure(own: Diff, pair: Pair) -> Measurement:
        counts.append(pair.view.name)
        return real(own, pair)

    monkeypatch.setattr(Diff, "measure", measure)
    assert spectra.diff(base, folders[:2]).document() == first.document()
    assert counts == []
    spectra.diff(base, folders)
    assert len(counts) == len(first.rows)
    counts.clear()
    spectra.diff(base, folders[2])  # each was measured as it is for itself
    assert counts == []


def test_intruders_of_each_are_those_of_diff(tmp_path: Path, base: Path) -> None:
    folders = [adapter(net(), tmp_path / "a", 1), full(net(), tmp_path / "b", 2, 0.5)]
    found = spectra.diff(base, folders, intruders=True, k=3)
    for name, folder, told in zip("ab", folders, found.summary["updates"], strict=True):
        alone = spectra.diff(base, folder, intruders=True, k=3)
        assert told["intruders"] == alone.summary["intruders"]
        assert told["reading"] == alone.summary["reading"]
        rows: Any = {row.matrix: row for row in found.rows}
        for row in alone.rows:
            own = next(one for one in rows[row.matrix].values["updates"] if one["model"] == name)
            assert {key: own[key] for key in row.values} == dict(row.values)


def test_nan_in_one_is_named(tmp_path: Path, base: Path) -> None:
    whole, sick = full(net(), tmp_path / "a", 1), full(net(), tmp_path / "b", 2)
    state = load_file(sick / "model.safetensors")
    state["head.weight"][0, 0] = math.nan
    save_file(state, sick / "model.safetensors")
    found = spectra.diff(base, [whole, sick])
    row = next(row for row in found.rows if row.matrix == "head.weight")
    assert row.status == "non-finite"
    assert str(row.error).startswith("model 2: tuned: ")
    assert found.summary["non_finite"] == 1


def test_refusals(tmp_path: Path, base: Path) -> None:
    one = adapter(net(), tmp_path / "a", 1)
    with pytest.raises(UsageError, match="merged_rank=3 is of the sum of several changes"):
        spectra.diff(base, one, merged_rank=3)
    with pytest.raises(UsageError, match="merged_rank=0 is too small"):
        spectra.diff(base, [one, one], merged_rank=0)
    with pytest.raises(UsageError, match="is a LoRA adapter: as BASE"):
        spectra.diff(one, [one, base])
    other = tmp_path / "other"
    other.mkdir()
    save_file({"x.weight": torch.ones(3, 3)}, other / "model.safetensors")
    (other / "config.json").write_text("{}")
    with pytest.raises(PairingError, match="other"):
        spectra.diff(base, [one, other])


def test_the_result_is_plain_json_and_is_read_back(tmp_path: Path, base: Path) -> None:
    found = spectra.diff(base, [full(net(), tmp_path / "a", 1), adapter(net(), tmp_path / "b", 2)])
    found.save(tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved["command"] == "diff_several"
    assert saved["settings"]["k"] == 10
    assert "ask" not in saved["settings"]
    assert spectra.load(tmp_path / "r.json").document() == saved
    frame = found.frame
    assert {"a", "b", "task_cosine", "delta_norm_a", "delta_norm_b"} <= set(frame)
