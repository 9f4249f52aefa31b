"""Plans: what is settled from headers before any weight is read."""

import json
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.matrices import Selection, views_of
from spectra.work import plan_model, plan_pair


def opened(folder: Path) -> Checkpoint | Adapter:
    return spectra.open(folder)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    tensors = {
        f"model.layers.{i}.mlp.{name}_proj.weight": torch.randn(8, 4)
        for i in (0, 2, 10)
        for name in ("up", "down")
    }
    return write_model(tmp_path / "small", {**tensors, "model.norm.weight": torch.ones(4)})


def test_rows_come_with_layer_2_before_layer_10(small: Path) -> None:
    plan = plan_model(opened(small), Selection())
    assert [view.role.layer for view in plan.views] == [0, 0, 2, 2, 10, 10]
    assert [(item.tensor, item.reason) for item in plan.skipped] == [
        ("model.norm.weight", "one-dimensional")
    ]
    assert plan.nbytes == 6 * 8 * 4 * 4


def test_selecting_nothing_says_how_many_there_were(small: Path) -> None:
    with pytest.raises(NothingToAnalyseError, match=r"none of the 6 matrices.*spectra\.ls\("):
        plan_model(opened(small), Selection(include=("nope",)))


def test_a_model_without_matrices_is_said_to_have_none(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"norm.weight": torch.ones(4)})
    with pytest.raises(NothingToAnalyseError, match=r"analysed: 1 tensor \(one-dimensional\)\.$"):
        plan_model(opened(folder), Selection())


def test_a_tuned_model_without_matrices_is_said_to_have_none(small: Path, tmp_path: Path) -> None:
    tuned = write_model(tmp_path / "tuned", {})
    with pytest.raises(NothingToAnalyseError, match=r"tuned holds no matrix .*: it is empty\.$"):
        plan_pair(opened(small), opened(tuned), Selection())


def test_an_adapter_is_no_model_and_no_base(minilm: Path, minilm_lora: Path) -> None:
    with pytest.raises(UsageError, match=r"is a LoRA adapter, not a model.*spectra\.diff\(BASE"):
        plan_model(opened(minilm_lora), Selection())
    with pytest.raises(UsageError, match="as BASE give the model"):
        plan_pair(opened(minilm_lora), opened(minilm), Selection())


def test_the_real_adapter_changes_36_matrices_and_lists_its_head(
    minilm: Path, minilm_lora: Path
) -> None:
    plan = plan_pair(opened(minilm), opened(minilm_lora), Selection())
    changed = [task for task in plan.tasks if task.inputs[0].change is not None]
    assert len(changed) == 36
    assert len(plan.tasks) == 40
    reasons = {item.tensor: item.reason for item in plan.skipped}
    assert reasons["classifier.weight"] == "no counterpart in the base"
    assert reasons["classifier.bias"] == "no counterpart in the base"


def test_every_shape_mismatch_is_found_before_any_work(tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", {"x.weight": torch.ones(4, 4), "y.weight": torch.ones(4, 2)})
    tuned = write_model(
        tmp_path / "b", {"x.weight": torch.ones(4, 5), "y.weight": torch.ones(3, 2)}
    )
    with pytest.raises(PairingError, match=r"'x.weight' is 4 x 4 there and 4 x 5 here \(and 1 mor"):
        plan_pair(opened(base), opened(tuned), Selection())
    with pytest.raises(PairingError, match=r"'y.weight' is 4 x 2 there and 3 x 2 here\. Give"):
        plan_pair(opened(base), opened(tuned), Selection(exclude=("x.*",)))


def test_an_adapter_of_another_width_is_refused(tmp_path: Path, minilm_lora: Path) -> None:
    base = write_model(
        tmp_path, {"encoder.layer.0.attention.self.query.weight": torch.ones(16, 16)}
    )
    with pytest.raises(PairingError, match=r"16 x 16 there and the update 384 x 384 here"):
        plan_pair(opened(base), opened(minilm_lora), Selection())


def test_strangers_do_not_pair(tmp_path: Path, minilm_lora: Path) -> None:
    base = write_model(tmp_path / "a", {"x.weight": torch.ones(4, 4)})
    tuned = write_model(tmp_path / "b", {"y.kernel": torch.ones(4, 4)})
    with pytest.raises(PairingError, match=r"no tensor of .* belongs to one of"):
        plan_pair(opened(base), opened(tuned), Selection())
    with pytest.raises(PairingError, match=r"no module of .* belongs to a tensor of"):
        plan_pair(opened(base), opened(minilm_lora), Selection())


def test_a_head_prefix_on_either_side_pairs_all_the_same(tmp_path: Path) -> None:
    tensors = {f"encoder.layer.{i}.output.dense.weight": torch.randn(4, 6) for i in range(2)}
    headless = write_model(tmp_path / "a", tensors)
    headed = write_model(
        tmp_path / "b",
        {f"bert.{name}": value for name, value in tensors.items()}
        | {"classifier.weight": torch.ones(2, 4)},
    )
    for base, tuned in ((headless, headed), (headed, headless)):
        plan = plan_pair(opened(base), opened(tuned), Selection())
        assert len(plan.tasks) == 2
        assert [item.tensor for item in plan.skipped] == ["classifier.weight"]


def test_what_the_tuned_model_lacks_is_a_skip(tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", {"x.weight": torch.ones(4, 4), "y.weight": torch.ones(4, 4)})
    tuned = write_model(tmp_path / "b", {"x.weight": torch.ones(4, 4)})
    plan = plan_pair(opened(base), opened(tuned), Selection())
    assert [(s.tensor, s.reason) for s in plan.skipped] == [
        ("y.weight", "no counterpart in the tuned model")
    ]


def words(count: int, prefix: str = "", quantised: bool = False) -> dict[str, torch.Tensor]:
    """A model of `count` layers, one of whose two matrices may be packed by nobody known."""
    found = {f"{prefix}layers.{i}.up.weight": torch.randn(8, 8) for i in range(count)}
    for i in range(count):
        down = f"{prefix}layers.{i}.down"
        if quantised:
            found[f"{down}.qweight"] = torch.ones(1, 8, dtype=torch.int32)
            found[f"{down}.scales"] = torch.ones(1, 8)
        else:
            found[f"{down}.weight"] = torch.randn(8, 8)
    return found


def test_a_check_says_which_matrices_it_did_not_compare(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", words(3))
    resized = words(3)
    resized["layers.1.down.weight"] = torch.randn(8, 6)
    found = spectra.check(write_model(tmp_path / "tuned", resized), base=base, ignore="SPC006")
    assert found.summary["reading"].endswith(
        " 1 of 6 matrices of the base and 1 of 6 of the tuned model found no partner, such as "
        "'layers.1.down.weight': not compared: 8 x 8 in the base, 8 x 6 here."
    )
    assert found.summary["unpaired"]["base"] == {"matrices": 6, "unpaired": 1}
    with pytest.raises(PairingError, match="8 x 8 there and 8 x 6 here"):
        spectra.diff(base, tmp_path / "tuned")


def test_matrices_without_a_partner_are_counted_on_both_sides(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", words(3))
    odd = {k.replace(".0.", ".0.strange."): v for k, v in words(3).items()}
    odd["extra.weight"] = torch.randn(4, 4)
    tuned = write_model(tmp_path / "tuned", {**odd, "extra.bias": torch.ones(4)})
    plan = plan_pair(opened(base), opened(tuned), Selection())
    assert plan.unpaired is not None
    assert plan.unpaired.plain() == {
        "base": {"matrices": 6, "unpaired": 2}, "tuned": {"matrices": 7, "unpaired": 3},
    }  # fmt: skip
    assert plan.unpaired.text() == (
        "2 of 6 matrices of the base and 3 of 7 of the tuned model found no partner, such as "
        "'layers.0.down.weight': no counterpart in the tuned model."
    )
    result = spectra.diff(base, tuned)
    assert plan.unpaired.text() in result.summary["reading"]
    assert result.summary["unpaired"] == plan.unpaired.plain()
    # What is left out on request is no matrix without a partner.
    for chosen in (Selection(layers="1-2"), Selection(exclude=("*.0.*", "extra*"))):
        plan = plan_pair(opened(base), opened(tuned), chosen)
        assert plan.unpaired is not None
        assert plan.unpaired.text() == ""
    whole = plan_pair(opened(base), opened(base), Selection())
    assert whole.unpaired is not None
    assert whole.unpaired.text() == ""


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_reason_found_when_opening_survives_pairing(tmp_path: Path, prefix: str) -> None:
    plain = write_model(tmp_path / "plain", words(2))
    packed = write_model(tmp_path / "packed", words(2, prefix, quantised=True))
    reason = next(item.reason for item in opened(packed).skipped if "qweight" in item.tensor)
    pairs = ((plain, packed, "tuned model"), (packed, plain, "base"))
    for base, tuned, side in pairs:
        plan = plan_pair(opened(base), opened(tuned), Selection())
        told = {item.tensor: item.reason for item in plan.skipped}
        assert told["layers.0.down.weight"] == f"not read in the {side}: {reason}"
        assert plan.unpaired is not None
        assert plan.unpaired.plain() == {
            part: {"matrices": 4, "unpaired": 2} for part in ("base", "tuned")
        }
        assert plan.unpaired.text().endswith(f"not read in the {side}: {reason}.")
    plan = plan_pair(opened(packed), opened(packed), Selection())
    assert plan.unpaired is not None
    assert plan.unpaired.text() == (
        "2 of 4 matrices of the base and 2 of 4 of the tuned model found no partner, such as "
        f"'{prefix}layers.0.down.qweight': {reason}."
    )


def cut(model: Path, kept: int) -> None:
    """End a file of weights behind so many of its tensors."""
    path = model / "model.safetensors"
    raw = path.read_bytes()
    head = 8 + int.from_bytes(raw[:8], "little")
    stops = sorted(t["data_offsets"][1] for n, t in json.loads(raw[8:head]).items() if n[0] != "_")
    path.write_bytes(raw[: head + (stops[kept - 1] if kept else 0) + 1])


NORMED = {
    name: torch.ones(8) if "Norm" in name or "bias" in name else torch.rand(8, 8)
    for i in range(4)
    for name in (f"layer.{i}.LayerNorm.weight", f"layer.{i}.LayerNorm.bias",
                 f"layer.{i}.dense.weight", f"layer.{i}.dense.bias")
}  # fmt: skip
FUSED = {
    name: torch.rand(shape)
    for i in range(3)
    for name, shape in (
        (f"h.{i}.attn.c_attn.weight", (8, 24)), (f"h.{i}.attn.c_proj.weight", (8, 8)),
        (f"h.{i}.ln_1.weight", (8,)),
    )
}  # fmt: skip
STACKED = {
    f"model.layers.{i}.mlp.experts.{name}": torch.rand(4, 8, 8)
    for i in range(2)
    for name in ("gate_up_proj", "down_proj")
}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    ("tensors", "config", "matrices"),
    [(NORMED, "", 4), (FUSED, '{"model_type": "gpt2", "n_embd": 8, "n_head": 2}', 12),
     (STACKED, '{"model_type": "qwen3_moe"}', 24)],
    ids=["norms and biases", "fused", "experts"],
)  # fmt: skip
def test_what_a_cut_file_lost_counts_as_the_matrices_that_it_held(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: str, matrices: int, share: float
) -> None:
    base = write_model(tmp_path / "base", tensors, config)
    assert len(plan_model(opened(base), Selection()).views) == matrices
    tuned = write_model(tmp_path / "tuned", tensors, config)
    cut(tuned, int(len(tensors) * share))
    survey = open_damaged(tuned)
    assert isinstance(survey.checkpoint, Checkpoint)
    lost = matrices - len(views_of(survey.checkpoint)[0])
    assert 0 < lost < matrices
    found = spectra.check(tuned, base=base, ignore="SPC3")
    side = {"matrices": matrices, "unpaired": lost}
    assert found.summary["unpaired"] == {"base": side, "tuned": side}


def test_parts_that_lie_fused_on_one_side_are_counted(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"h.0.attn.c_attn.weight": torch.randn(8, 24)},
                       '{"model_type": "gpt2"}')  # fmt: skip
    tuned = write_model(tmp_path / "tuned", {"h.0.attn.c_attn.weight": torch.randn(24, 8),
                                             "h.0.mlp.c_fc.weight": torch.randn(8, 8)})  # fmt: skip
    plan = plan_pair(opened(base), opened(base), Selection())
    assert plan.unpaired is not None
    assert plan.unpaired.plain()["base"] == {"matrices": 3, "unpaired": 0}
    with pytest.raises(PairingError):
        plan_pair(opened(base), opened(tuned), Selection())


def test_a_head_that_an_adapter_stores_whole_may_have_no_partner(
    minilm: Path, minilm_lora: Path
) -> None:
    plan = plan_pair(opened(minilm), opened(minilm_lora), Selection())
    assert plan.unpaired is not None
    assert plan.unpaired.text() == (
        "1 of 1 matrix that the adapter stores whole found no partner: 'classifier.weight' "
        "(no counterpart in the base)."
    )
    some = plan_pair(opened(minilm), opened(minilm_lora), Selection(roles=("attn.q",)))
    assert some.unpaired is not None
    assert some.unpaired.text() == ""
