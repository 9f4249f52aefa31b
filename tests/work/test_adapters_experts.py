"""Factors on stacks of experts, against what PEFT merges, one expert at a time."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapters import agrees_with_merged, low_rank, pairs, planned, save, trained
from spectra.checkpoint.fingerprints import Ledger
from spectra.errors import PairingError
from spectra.gate import plan_check
from spectra.policy import Policy
from spectra.work.load import Loader
from spectra.work.planning.stacks import stored_out_in
from spectra.work.read import Read

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following (alpha|rank)_pattern keys:RuntimeWarning"),
]
SIZES: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 12,
    "num_key_value_heads": 1, "head_dim": 4, "pad_token_id": 0, "num_experts_per_tok": 1,
}  # fmt: skip


def mixtral(inner: int = 12) -> nn.Module:
    config = transformers.MixtralConfig(**SIZES, intermediate_size=inner, num_local_experts=3)
    return transformers.MixtralForCausalLM(config)


def qwen3_moe(inner: int = 12) -> nn.Module:
    config = transformers.Qwen3MoeConfig(**SIZES, moe_intermediate_size=inner, num_experts=3)
    return transformers.Qwen3MoeForCausalLM(config)


def gpt_oss(inner: int = 12) -> nn.Module:
    config = transformers.GptOssConfig(
        **SIZES, intermediate_size=inner, num_local_experts=3, layer_types=["full_attention"] * 2
    )
    return transformers.GptOssForCausalLM(config)


def llama4(inner: int = 12) -> nn.Module:
    config = transformers.Llama4TextConfig(
        **SIZES, intermediate_size=inner, intermediate_size_mlp=12, num_local_experts=3
    )
    return transformers.Llama4ForCausalLM(config)


BOTH = ["experts.gate_up_proj", "experts.down_proj"]
MAKERS = {"mixtral": mixtral, "qwen3-moe": qwen3_moe, "gpt-oss": gpt_oss, "llama4": llama4}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


@pytest.mark.parametrize("inner", [12, 8], ids=["oblong", "square-down"])
@pytest.mark.parametrize("name", MAKERS)
def test_every_expert_is_what_peft_merges(name: str, inner: int, tmp_path: Path) -> None:
    trained(
        MAKERS[name](inner), tmp_path, r=2, target_modules=["q_proj"], target_parameters=BOTH,
        rank_pattern={"gate_up_proj": 3}, alpha_pattern={r"layers\.1\..*\.down_proj": 5},
    )  # fmt: skip
    changed = agrees_with_merged(tmp_path)
    assert len([key for key in changed if "expert=" in key]) == 2 * 3 * 3
    assert low_rank(changed) == set(changed)
    assert {pair.tuned.left.shape[1] for pair in changed.values()} == {2, 3}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("inner", [12, 8], ids=["oblong", "square"])
def test_one_parameter_alone(name: str, inner: int, tmp_path: Path) -> None:
    trained(MAKERS[name](inner), tmp_path, r=2, target_modules=[],
            target_parameters=["experts.down_proj"])  # fmt: skip
    assert len(agrees_with_merged(tmp_path)) == 2 * 3


@pytest.mark.parametrize(
    ("name", "settings", "changes"),
    [
        ("qwen3-moe", {"target_modules": "all-linear"}, 4 + 1 + 3 * 3),
        ("mixtral", {"target_modules": "all-linear"}, 4 + 1 + 3 * 3),
        ("gpt-oss", {"target_modules": r".*\.(q|k)_proj", "target_parameters": ["down_proj"]}, 5),
    ],
    ids=["all-linear", "all-linear-renamed", "pattern"],
)
def test_parameters_without_their_modules_name_leave_linear_layers_alone(
    name: str, settings: dict[str, Any], changes: int, tmp_path: Path
) -> None:
    trained(MAKERS[name](), tmp_path, r=2, **settings)
    told = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert "down_proj" in told["target_parameters"]
    changed = agrees_with_merged(tmp_path)
    assert len(changed) == 2 * changes, sorted(changed)


@pytest.mark.parametrize("make", [mixtral, qwen3_moe], ids=["mixtral", "qwen3-moe"])
def test_a_base_with_one_tensor_for_each_expert(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """transformers writes such files by default, under names that memory does not have."""
    pair_of_files(make(), tmp_path, target_parameters=BOTH)
    changed = agrees_with_merged(tmp_path)
    assert len(changed) == 2 * 3 * 3
    assert all(".experts.0." in k or ".experts.1." in k or ".experts.2." in k for k in changed)
    assert low_rank(changed) == set(changed)


def test_the_router_of_mixtral_is_called_otherwise_in_files(tmp_path: Path) -> None:
    model: Any = mixtral()
    pair_of_files(model, tmp_path, target_parameters=["mlp.gate.weight"])
    assert set(agrees_with_merged(tmp_path)) == {
        f"model.layers.{layer}.block_sparse_moe.gate.weight" for layer in (0, 1)
    }


def edited(folder: Path, **settings: object) -> None:
    """Change an adapter's config; None leaves a setting out."""
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize("version", [None, "0.18.0", "0.19.0", "x"])
def test_squares_of_an_older_peft_are_told_and_not_guessed(
    version: str | None, tmp_path: Path
) -> None:
    trained(qwen3_moe(8), tmp_path, r=2, target_modules=["q_proj"],
            target_parameters=["experts.down_proj"])  # fmt: skip
    edited(tmp_path / "adapter", peft_version=version)
    plan = planned(tmp_path)
    reasons = {item.tensor: item.reason for item in plan.skipped}
    assert "which PEFT 0" in reasons["model.layers.0.mlp.experts"]
    assert "may have taken either way round" in reasons["model.layers.0.mlp.experts"]
    assert plan.warning.startswith("2 of the adapter's 4 modules")


def test_oblong_stacks_tell_how_square_ones_lie_whatever_the_version(tmp_path: Path) -> None:
    trained(qwen3_moe(8), tmp_path, r=2, target_modules=[], target_parameters=BOTH)
    edited(tmp_path / "adapter", peft_version=None)
    assert len(agrees_with_merged(tmp_path)) == 2 * 3 * 3


@pytest.mark.parametrize(
    ("family", "version", "expected"),
    [
        ("gpt_oss", (0, 0, 0), False),
        ("gpt_oss", (0, 18, 1), False),
        ("gpt_oss", (0, 19, 0), None),
        ("gpt_oss", (0, 21, 2), False),
        ("qwen3_moe", (0, 0, 0), None),
        ("qwen3_moe", (0, 19, 0), None),
        ("qwen3_moe", (0, 19, 1), True),
        ("llama4_text", (0, 21, 2), True),
    ],
)
def test_which_way_round_square_stacks_lie_by_version(
    family: str, version: tuple[int, ...], expected: bool | None
) -> None:
    assert stored_out_in([], {"model_type": family}, version) is expected


def test_parameters_that_factors_cannot_tell_apart_are_listed(tmp_path: Path) -> None:
    trained(Twins(), tmp_path, r=2, target_modules=[], merge=False,
            target_parameters=["mlp.gate", "mlp.up"],
            trainable_token_indices={"table": [1]})  # fmt: skip
    plan = planned(tmp_path)
    found = pairs(plan)
    assert found["mlp.gate"].tuned is found["mlp.up"].tuned is None
    reason = "its factors fit several parameters of the base: gate [6, 5]; up [6, 5]"
    assert {item.tensor: item.reason for item in plan.skipped} == {
        "mlp": reason,
        "mlp.base_layer": reason,
    }
    assert plan.warning.startswith("2 of the adapter's 3 modules")


def test_an_adapter_that_cannot_be_placed_at_all_says_why(tmp_path: Path) -> None:
    trained(Twins(), tmp_path, r=2, target_modules=[], target_parameters=["mlp.gate", "mlp.up"],
            merge=False)  # fmt: skip
    with pytest.raises(PairingError, match=r"'mlp.*: its factors fit several .*\. Merge it into"):
        planned(tmp_path)


def test_a_flat_parameter_is_a_matrix(tmp_path: Path) -> None:
    trained(Twins(), tmp_path, r=2, target_modules=[], target_parameters=["mlp.up"])
    assert set(agrees_with_merged(tmp_path)) == {"mlp.up"}


def test_a_base_without_the_parameter_loses_it_aloud(tmp_path: Path) -> None:
    trained(qwen3_moe(), tmp_path, r=2, target_modules=["q_proj"], target_parameters=BOTH,
            merge=False)  # fmt: skip
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    less = {key: value for key, value in tensors.items() if "layers.1.mlp.experts" not in key}
    save_file(less, tmp_path / "base" / "model.safetensors")
    plan = planned(tmp_path)
    lost = {item.tensor for item in plan.skipped if item.reason == "no counterpart in the base"}
    assert lost == {"model.layers.1.mlp.experts", "model.layers.1.mlp.experts.base_layer"}
    assert plan.warning.startswith("2 of the adapter's 6 modules")


def test_factors_of_another_size_are_listed(tmp_path: Path) -> None:
    trained(qwen3_moe(), tmp_path, r=2, target_modules=["q_proj"], target_parameters=BOTH,
            merge=False)  # fmt: skip
    save(qwen3_moe(10), tmp_path / "other")
    reasons = {item.tensor: item.reason for item in planned(tmp_path, base="other").skipped}
    assert reasons["model.layers.0.mlp.experts"].startswith(
        "its factors do not fit the parameters of the base: "
    )


def test_one_experts_factors_are_read_and_no_more_of_a(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(qwen3_moe(), tmp_path, r=2, target_modules=[], target_parameters=BOTH, merge=False)
    plan = planned(tmp_path)
    read: list[tuple[str, object]] = []
    original = Read.values

    def spied(self: Read, ledger: Ledger | None = None) -> Tensor:
        read.append((self.entry.name, self.slab))
        return original(self, ledger)

    monkeypatch.setattr(Read, "values", spied)
    loader = Loader(plan.tasks)
    for task in plan.tasks:
        loader.load(task)
    down = [slab for name, slab in read if name.endswith("layers.0.mlp.experts.lora_A.weight")]
    assert down == [(0, 2), (2, 4), (4, 6)]
    held = [name for name, _ in read if name.endswith("lora_B.weight")]
    assert len(held) == len(set(held)) == 4  # each once, not for every expert
    read.clear()
    check = plan_check(tmp_path / "adapter", Policy(base=str(tmp_path / "base")))
    check.run()
    factors = [one for one in read if "lora_" in one[0]]
    assert len(factors) == len(set(factors)) == 8
    assert all(slab is None for _, slab in factors)  # they are checked whole


class Twins(nn.Module):
    """Two parameters of one module and one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Inner()
        self.table = nn.Embedding(4, 3)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(6, 5))
        self.up = nn.Parameter(torch.randn(6, 5))


def pair_of_files(model: nn.Module, folder: Path, **settings: Any) -> None:  # noqa: ANN401
    """Write base, adapter and merged model, the models as `save_pretrained` writes them."""
    whole: Any = model
    whole.save_pretrained(folder / "base")
    tuned: Any = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=[], **settings))
    with torch.no_grad():
        for key, value in tuned.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value))
    tuned.save_pretrained(str(folder / "adapter"))
    copy.deepcopy(tuned).merge_and_unload().save_pretrained(folder / "merged")
