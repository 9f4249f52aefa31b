"""Adapters of other methods than LoRA as releases: healthy ones pass, idle ones do not."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import spectra
from adapters import method, save
from spectra.errors import AdapterError, PairingError, SpectraError
from spectra.policy import Policy

EXPECTED = (
    ".is_gradient_checkpointing. is deprecated",
    "Unsupported layer type",
    "Sparse invariant",
    "Failed to load the CUDA extension",
    "Setting boft_n_butterfly_factor",
    "Invalid .(oft_block_size|r).",  # of OFT, which takes the nearest
    "The following rank_pattern keys",  # of OSF, which searches for them all the same
)
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in EXPECTED]
ON: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"]}
METHODS = {
    "OFT": peft.OFTConfig(oft_block_size=8, **ON),
    "VeRA": peft.VeraConfig(r=4, **ON),
    "SHiRA": peft.ShiraConfig(r=2, **ON),
    "IA3": peft.IA3Config(feedforward_modules=["down_proj"], **ON),
    "LoKr": peft.LoKrConfig(r=2, **ON),
    "norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
}
JUDGED = ("SPC0", "SPC108", "SPC109", "SPC110")


def llama() -> nn.Module:
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=40,
        num_key_value_heads=1, head_dim=16, pad_token_id=0, intermediate_size=48,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("name", METHODS)
def test_a_healthy_adapter_of_another_method_passes(name: str, tmp_path: Path) -> None:
    """Its tensors have none of the base's names, and are no weights that the model lacks."""
    method(llama(), METHODS[name], tmp_path)
    for base in (None, tmp_path / "base"):
        found = spectra.check(tmp_path / "adapter", base=base, select=JUDGED)
        assert found.summary["findings"] == []
        assert found.summary["coverage"]["share"] == 1.0
        assert found.summary["exit_code"] == 0


def test_a_later_release_is_held_against_a_saved_check(tmp_path: Path) -> None:
    method(llama(), METHODS["OFT"], tmp_path)
    kept = tmp_path / "kept.json"
    spectra.check(tmp_path / "adapter", select=JUDGED).save(kept)
    found = spectra.check(tmp_path / "adapter", baseline=str(kept), select=JUDGED)
    assert found.summary["findings"] == []


def test_an_adapter_that_turns_nothing_is_idle(tmp_path: Path) -> None:
    model: Any = llama()
    save(model, tmp_path / "base")
    peft.get_peft_model(model, METHODS["VeRA"]).save_pretrained(str(tmp_path / "adapter"))
    found = spectra.check(tmp_path / "adapter", base=tmp_path / "base", select="SPC1")
    told = {one["rule"]: one["message"] for one in found.summary["findings"]}
    assert told["SPC109"] == "the adapter does nothing: of 4 modules none changes the base"


@pytest.mark.parametrize("name", ["LoKr", "OFT", "VeRA"])
def test_a_limit_of_loras_rank_judges_no_other_method(name: str, tmp_path: Path) -> None:
    method(llama(), METHODS[name], tmp_path)
    policy = Policy(select=("SPC111",), rules={"SPC111": {"max": 1}})
    found = spectra.check(tmp_path / "adapter", policy=policy)
    (told,) = found.summary["findings"]
    assert (told["severity"], found.summary["exit_code"]) == ("note", 0)
    assert told["message"] == (
        f"the adapter is of {name}, and the limit is of LoRA's rank: not judged; "
        "`spectra lowrank convert` makes a LoRA of it"
    )


def test_modules_of_another_method_that_match_nothing_are_counted(tmp_path: Path) -> None:
    method(llama(), METHODS["OFT"], tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    whole = len({name.rpartition(".oft_R")[0] for name in tensors})
    save_file({name.replace("layers.1.", "layers.7."): one for name, one in tensors.items()}, file)
    found = spectra.check(tmp_path / "adapter", base=tmp_path / "base", select="SPC108")
    (told,) = found.summary["findings"]
    start = f"{whole // 2} of the adapter's {whole} modules match no tensor of the base: "
    assert told["message"].startswith(start)


def test_an_adapter_of_which_no_module_can_be_read_is_refused(tmp_path: Path) -> None:
    method(llama(), peft.TinyLoraConfig(**ON), tmp_path)
    with pytest.raises(PairingError, match="several shared vectors, and not which of them"):
        spectra.diff(tmp_path / "base", tmp_path / "adapter")


SHARED = peft.OFTConfig(oft_block_size=8, block_share=True, **ON)
CONTRADICTED = {
    "LoHa": (peft.LoHaConfig(r=2, alpha=2, **ON), "r", 4, "factors of rank 2"),
    "LoHa by a pattern": (peft.LoHaConfig(r=2, alpha=2, **ON), "rank_pattern", {"q_proj": 4},
                          "factors of rank 2, r = 4"),
    "LoKr": (peft.LoKrConfig(r=2, alpha=2, **ON), "r", 4, "factors of rank 2"),
    "VeRA": (METHODS["VeRA"], "r", 8, "factors of rank 4"),
    "OFT": (METHODS["OFT"], "oft_block_size", 16, "tensors for oft_block_size = 8"),
    "BOFT": (peft.BOFTConfig(boft_block_size=8, **ON), "boft_block_size", 4,
             "tensors for boft_block_size = 8"),
    "FourierFT": (peft.FourierFTConfig(n_frequency=40, **ON), "n_frequency", 80,
                  "tensors for n_frequency = 40"),
    "PVeRA": (peft.PveraConfig(r=4, **ON), "r", 8, "factors of rank 4"),
    "RandLoRA": (peft.RandLoraConfig(r=4, **ON), "r", 2, "factors of rank 4"),
    "VB-LoRA": (peft.VBLoRAConfig(r=2, num_vectors=9, vector_length=8, **ON), "r", 4,
                "factors of rank 2"),
    "VB-LoRA's bank": (peft.VBLoRAConfig(r=2, num_vectors=9, vector_length=8, **ON),
                       "num_vectors", 12, "tensors for num_vectors = 9"),
    "Uni-LoRA": (peft.UniLoraConfig(r=2, theta_d_length=64, save_indices=True, **ON),
                 "theta_d_length", 128, "tensors for theta_d_length = 64"),
    "DeLoRA": (peft.DeloraConfig(r=2, rank_pattern={"q_proj": 2}, **ON), "rank_pattern",
               {"q_proj": 4}, "factors of rank 2, r = 4"),
    "GraLoRA": (peft.GraloraConfig(r=4, gralora_k=2, **ON), "gralora_k", 4,
                "tensors for gralora_k = 2"),
    "MiSS": (peft.MissConfig(r=2, **ON), "r", 4, "tensors for r = 2"),
    "MiSS of blocks": (peft.MissConfig(r=8, init_weights="bat", **ON), "r", 4,
                       "tensors for r = 8"),
    "small MiSS": (peft.MissConfig(r=8, mini_r=4, init_weights="mini", **ON), "mini_r", 8,
                   "tensors for mini_r = 4"),
    "TinyLoRA": (peft.TinyLoraConfig(r=2, u=6, weight_tying=1.0, **ON), "u", 4,
                 "tensors for u = 6"),
    "WaveFT": (peft.WaveFTConfig(n_frequency=40, **ON), "n_frequency", 80,
               "tensors for n_frequency = 40"),
    "C3A": (peft.C3AConfig(block_size=8, block_size_pattern={"q_proj": 16}, **ON),
            "block_size_pattern", {"q_proj": 4}, "tensors for block_size = 16, block_size = 4"),
    "SHiRA": (METHODS["SHiRA"], "r", 3, "tensors for r = 2"),
    "SuperTuning": (peft.SupertuningConfig(sparsity=0.75, **ON), "sparsity", 0.5,
                    "tensors for sparsity = 0.75"),
    "OFT by blocks": (peft.OFTConfig(r=4, oft_block_size=0, **ON), "r", 2, "tensors for r = 4"),
    "OFT of own blocks": (METHODS["OFT"], "block_share", True,
                          "tensors for block_share = false, block_share = true"),
    "OFT of one block": (SHARED, "oft_block_size", 6, "tensors for oft_block_size = 8"),
    "OFT of one block, too small": (SHARED, "oft_block_size", 16, "tensors for oft_block_size = 8"),
    "OFT of one block by blocks": (peft.OFTConfig(r=4, oft_block_size=0, block_share=True, **ON),
                                   "r", 2, "tensors for r = 4"),
    "BOFT by blocks": (peft.BOFTConfig(boft_block_size=0, boft_block_num=4, **ON),
                       "boft_block_num", 8, "tensors for boft_block_num = 4"),
    "HRA": (peft.HRAConfig(r=4, **ON), "r", 2, "tensors for r = 4"),
    "HiRA": (peft.HiraConfig(r=2, **ON), "r", 4, "factors of rank 2"),
    "DEFT": (peft.DeftConfig(r=2, **ON), "r", 4, "factors of rank 2"),
    "GLoRA": (peft.GloraConfig(r=2, **ON), "r", 4, "factors of rank 2"),
    "OSF": (peft.OSFConfig(effective_rank=6, **ON), "effective_rank", 8,
            "tensors for effective_rank = 6"),
    "OSF by a share": (peft.OSFConfig(effective_rank=0.25, **ON), "effective_rank", 0.5,
                       "tensors for effective_rank = 8"),
    "OSF by a pattern": (peft.OSFConfig(effective_rank=6, **ON), "rank_pattern",
                         {"layers.0": 9}, "tensors for effective_rank = 6, effective_rank = 9"),
    "PEANuT": (peft.PeanutConfig(r=2, **ON), "r", 4, "factors of rank 2"),
    "shallow PEANuT": (peft.PeanutConfig(r=2, depth=1, **ON), "depth", 3, "tensors for depth = 1"),
    "GraLoRA's hybrid": (peft.GraloraConfig(r=4, gralora_k=2, hybrid_r=2, **ON), "hybrid_r", 0,
                         "tensors for hybrid_r = 2"),
    "GraLoRA without": (peft.GraloraConfig(r=4, gralora_k=2, **ON), "hybrid_r", 4,
                        "tensors for hybrid_r = 0"),
    "AdaLoRA": (peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, **ON), "init_r", 8,
                "factors of rank 4"),
}  # fmt: skip
HEALTHY = {
    "LoHa": peft.LoHaConfig(r=4, alpha=2, rank_pattern={"q_proj": 2}, **ON),
    "LoKr": peft.LoKrConfig(r=2, alpha=2, rank_pattern={"q_proj": 1}, **ON),
    "HiRA": peft.HiraConfig(r=3, rank_pattern={"q_proj": 5}, **ON),  # PEFT writes 3
    "DEFT": peft.DeftConfig(r=40, **ON),  # of 32 outputs
    "GraLoRA": peft.GraloraConfig(r=4, gralora_k=2, hybrid_r=3, **ON),
    "PEANuT": peft.PeanutConfig(r=2, depth=2, **ON),
    **{
        f"OFT of {words}": peft.OFTConfig(
            r=blocks, oft_block_size=size, block_share=True, target_modules=ON["target_modules"]
        )
        for words, blocks, size in (
            ("one block", 0, 8),
            ("one near", 0, 9),
            ("one of all", 0, 99),
            ("one by blocks", 4, 0),
            ("one by about so many", 5, 0),
        )
    },
    "OSF": peft.OSFConfig(**ON),
    "OSF by a pattern": peft.OSFConfig(effective_rank=6, rank_pattern={"layers.0": 0.5}, **ON),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_number_that_a_pattern_or_a_module_sets_is_right(name: str, tmp_path: Path) -> None:
    method(llama(), HEALTHY[name], tmp_path)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for beside in (None, base):
        assert not spectra.check(adapter, base=beside, select="SPC110").summary["findings"]
    assert "contradicts" not in spectra.diff(base, adapter).summary["reading"]


LACKING = {
    "PEANuT": (
        peft.PeanutConfig(r=2, depth=2, **ON),
        "peanut_encoders.0.weight",
        "make no PEANuT update",
    ),
    "GraLoRA": (
        peft.GraloraConfig(r=4, gralora_k=2, hybrid_r=2, **ON),
        "gralora_B_general.weight",
        "lacks gralora_B_general.weight, which its method takes beside",
    ),
    "Uni-LoRA": (
        peft.UniLoraConfig(r=2, theta_d_length=64, save_indices=True, **ON),
        "unilora_scales_A",
        "lacks unilora_scales_A",
    ),
    "DEFT": (peft.DeftConfig(r=2, **ON), "deft_R", "lacks deft_R"),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_tensor_that_is_not_there_is_one_line(name: str, tmp_path: Path) -> None:
    made, lacking, text = LACKING[name]
    method(llama(), made, tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    kept = {key: one for key, one in tensors.items() if not key.endswith(lacking)}
    assert len(kept) < len(tensors)
    save_file(kept, file)
    with pytest.raises(SpectraError, match=text):
        spectra.diff(tmp_path / "base", tmp_path / "adapter")


def test_an_adapter_that_trains_nothing_is_told(tmp_path: Path) -> None:
    method(llama(), peft.OSFConfig(effective_rank=1.0, **ON), tmp_path)
    text = (
        "changes nothing: effective_rank keeps every direction, which leaves all of its 4 modules"
    )
    with pytest.raises(AdapterError, match=text):
        spectra.check(tmp_path / "adapter")


class Net(nn.Module):
    """Layers that lie in no other module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.line = nn.Conv1d(8, 16, 3), nn.Linear(24, 40)


@pytest.mark.parametrize("pattern", ["line", "l.*"])  # which PEFT takes, and does not
@pytest.mark.parametrize("name", ["C3A", "FourierFT", "WaveFT"])
def test_a_pattern_for_a_layer_of_the_model_itself(name: str, pattern: str, tmp_path: Path) -> None:
    line = ["line"]
    made = {
        "C3A": peft.C3AConfig(block_size=8, block_size_pattern={pattern: 4}, target_modules=line),
        "FourierFT": peft.FourierFTConfig(
            n_frequency=30, n_frequency_pattern={pattern: 20}, target_modules=line
        ),
        "WaveFT": peft.WaveFTConfig(
            n_frequency=30, n_frequency_pattern={pattern: 20}, target_modules=line
        ),
    }[name]
    method(Net(), made, tmp_path)
    assert spectra.check(tmp_path / "adapter", select="SPC110").summary["findings"] == []


def test_a_module_that_is_not_read_is_not_judged(tmp_path: Path) -> None:
    """Of a Conv1d that is stored whole PEFT and LyCORIS make different updates."""

    torch.manual_seed(3)
    on: dict[str, Any] = {"target_modules": ["conv", "line"]}
    method(Net(), peft.LoKrConfig(r=40, use_effective_conv2d=True, **on), tmp_path)
    found = spectra.check(tmp_path / "merged", base=tmp_path / "base", adapter=tmp_path / "adapter",
                          select="SPC107")  # fmt: skip
    assert found.summary["findings"] == []
    told = "Not judged is 'conv', which the adapter changes: LoKr with a Conv1d's lokr_w2"
    assert told in found.summary["reading"]


def test_without_effective_rank_half_of_the_directions_are_kept(tmp_path: Path) -> None:
    method(llama(), peft.OSFConfig(effective_rank=6, **ON), tmp_path)
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"effective_rank": None}))
    found = spectra.check(tmp_path / "adapter", select="SPC110").summary["findings"]
    text = "tensors for effective_rank = 6, but adapter_config.json gives no effective_rank, which "
    assert {one["message"] for one in found} == {f"has {text}is half of all"}


WITH_BASE = (
    "SHiRA",
    "SuperTuning",
    "OFT of one block, too small",
    "OFT of one block by blocks",
)  # whose sizes hang on those of the base


@pytest.mark.parametrize("name", CONTRADICTED)
def test_a_number_that_the_tensors_contradict(name: str, tmp_path: Path) -> None:
    made, setting, wrong, held = CONTRADICTED[name]
    method(llama(), made, tmp_path)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    right = spectra.diff(base, adapter)
    assert "contradicts" not in right.summary["reading"]
    assert not spectra.check(adapter, base=base, select="SPC110").summary["findings"]
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: wrong}))
    found = spectra.check(adapter, base=base, select="SPC110").summary["findings"]
    held, _, gives = held.partition(", ")  # of a pattern, for the modules that it is about
    text = f"has {held}, but adapter_config.json gives {gives or f'{setting} = {wrong}'}"
    assert {(one["severity"], one["message"]) for one in found} == {("error", text)}
    if name.startswith(("LoHa", "LoKr")):
        with pytest.raises(AdapterError, match="so its scale is unknown"):
            spectra.diff(base, adapter)
    else:
        told = spectra.diff(base, adapter)
        said = "adapter_config.json contradicts its tensors" in told.summary["reading"]
        assert said == (name not in WITH_BASE)
        norms = [[one.values["delta_norm"] for one in each.rows] for each in (right, told)]
        assert norms[0] == norms[1]
