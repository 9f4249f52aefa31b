"""Methods of PEFT other than LoRA, against what PEFT merges of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from torch import nn

from adapters import agrees_with_merged, low_rank, method

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not save \\w+ and:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unable to load FBD CUDA extension"),
    pytest.mark.filterwarnings("ignore:The symmetric initialization can NOT:UserWarning"),
    pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor to 1:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are:UserWarning"),
]

NAMES = ["up", "down", "square"]
Settings = Mapping[str, Any]
Make = Callable[..., peft.PeftConfig]


class Net(nn.Module):
    """A layer that widens, one that narrows, one that does neither, and those without updates."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 24)
        self.down = nn.Linear(24, 16, bias=False)
        self.square = nn.Linear(16, 16)
        self.conv = nn.Conv2d(4, 8, 2)
        self.point = nn.Conv2d(4, 8, 1)
        self.line = nn.Conv1d(4, 8, 3)
        self.table = nn.Embedding(10, 8)
        self.other = nn.Linear(16, 5)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=24, n_positions=8)
    return transformers.GPT2Model(config)


CASES: list[tuple[str, Make, Settings]] = [
    ("adalora", peft.AdaLoraConfig, {"init_r": 5, "total_step": 9, "lora_alpha": 7}),
    ("loha", peft.LoHaConfig, {"r": 3, "alpha": 5, "rank_pattern": {"down": 2},
                               "alpha_pattern": {"down": 7}}),
    ("loha-conv", peft.LoHaConfig, {"r": 2, "use_effective_conv2d": True,
                                    "target_modules": ["conv", "point", "line"]}),
    ("loha-flat-conv", peft.LoHaConfig, {"r": 2, "target_modules": ["conv", "line"]}),
    ("lokr", peft.LoKrConfig, {"r": 2, "alpha": 3}),
    ("lokr-both", peft.LoKrConfig, {"r": 1, "decompose_both": True, "decompose_factor": 4}),
    ("lokr-whole", peft.LoKrConfig, {"r": 16, "target_modules": [*NAMES, "conv"]}),
    ("lokr-conv", peft.LoKrConfig, {"r": 1, "use_effective_conv2d": True, "decompose_factor": 2,
                                    "target_modules": ["conv", "point"]}),
    ("vera", peft.VeraConfig, {"r": 6}),
    ("vera-drawn", peft.VeraConfig, {"r": 6, "save_projection": False,
                                     "projection_prng_key": 5}),
    ("pvera", peft.PveraConfig, {"r": 4}),
    ("randlora", peft.RandLoraConfig, {"r": 5, "randlora_alpha": 3}),
    ("randlora-drawn", peft.RandLoraConfig, {"r": 5, "save_projection": False}),
    ("randlora-sparse", peft.RandLoraConfig, {"r": 4, "sparse": True, "save_projection": False}),
    ("randlora-sparser", peft.RandLoraConfig, {"r": 4, "very_sparse": True,
                                               "save_projection": False}),
    ("vblora", peft.VBLoRAConfig, {"r": 3, "num_vectors": 12, "vector_length": 8}),
    ("vblora-top", peft.VBLoRAConfig, {"r": 3, "num_vectors": 300, "vector_length": 4, "topk": 3,
                                       "save_only_topk_weights": True}),
    ("unilora", peft.UniLoraConfig, {"r": 3, "theta_d_length": 64, "save_indices": True}),
    ("delora", peft.DeloraConfig, {"r": 3, "rank_pattern": {"down": 5}}),
    ("gralora", peft.GraloraConfig, {"r": 4, "gralora_k": 2}),
    ("gralora-hybrid", peft.GraloraConfig, {"r": 4, "gralora_k": 4, "hybrid_r": 3, "alpha": 9}),
    ("tinylora", peft.TinyLoraConfig, {"r": 3, "target_modules": ["up"]}),
    ("miss", peft.MissConfig, {"r": 5}),
    ("miss-mini", peft.MissConfig, {"r": 5, "mini_r": 4, "init_weights": "mini"}),
    ("miss-bat", peft.MissConfig, {"r": 4, "init_weights": "bat"}),
    ("fourierft", peft.FourierFTConfig, {"n_frequency": 40,
                                         "n_frequency_pattern": {"down": 20}}),
    ("waveft", peft.WaveFTConfig, {"n_frequency": 40, "target_modules": [*NAMES, "other"]}),
    ("waveft-plain", peft.WaveFTConfig, {"n_frequency": 40, "use_idwt": False}),
    ("c3a", peft.C3AConfig, {"block_size": 8}),
    ("shira", peft.ShiraConfig, {"r": 2}),
    ("supertuning", peft.SupertuningConfig, {"sparsity": 0.7}),
    ("supertuning-lora", peft.SupertuningConfig, {"sparsity": 0.7, "r": 2, "lora_alpha": 6}),
    ("oft", peft.OFTConfig, {"oft_block_size": 4, "target_modules": [*NAMES, "conv", "table"]}),
    ("oft-exact", peft.OFTConfig, {"oft_block_size": 8, "use_cayley_neumann": False}),
    ("oft-shared", peft.OFTConfig, {"oft_block_size": 4, "block_share": True, "coft": True,
                                    "eps": 0.1, "num_cayley_neumann_terms": 3}),
    ("boft", peft.BOFTConfig, {"boft_block_size": 4, "target_modules": [*NAMES, "conv"]}),
    ("hra", peft.HRAConfig, {"r": 3, "target_modules": [*NAMES, "conv"]}),
    ("hra-orthogonal", peft.HRAConfig, {"r": 4, "apply_GS": True}),
    ("ia3", peft.IA3Config, {"feedforward_modules": ["down"]}),
    ("ia3-conv", peft.IA3Config, {"feedforward_modules": ["conv"],
                                  "target_modules": ["conv", "point"]}),
    ("road-1", peft.RoadConfig, {"group_size": 8}),
    ("road-2", peft.RoadConfig, {"group_size": 4, "variant": "road_2"}),
    ("road-4", peft.RoadConfig, {"group_size": 8, "variant": "road_4"}),
    ("hira", peft.HiraConfig, {"r": 3, "target_modules": [*NAMES, "conv", "table"]}),
    ("deft", peft.DeftConfig, {"r": 3}),
    ("deft-qr", peft.DeftConfig, {"r": 3, "decomposition_method": "qr", "alpha": 6}),
    ("deft-para", peft.DeftConfig, {"r": 3, "para": True}),
    ("glora", peft.GloraConfig, {"r": 3}),
    ("glora-vector", peft.GloraConfig, {"config_A_B": "vector"}),
    ("glora-constant", peft.GloraConfig, {"config_A_B": "constant"}),
    ("peanut", peft.PeanutConfig, {"r": 3, "scaling": 0.5}),
    ("peanut-deep", peft.PeanutConfig, {"r": 3, "depth": 2, "act_fn": "gelu"}),
    ("osf", peft.OSFConfig, {"effective_rank": 6}),
]  # fmt: skip
FACTORS = (
    "adalora", "loha", "lokr", "vera", "pvera", "randlora", "vblora", "unilora", "delora",
    "gralora", "tinylora", "miss", "fourierft", "waveft", "c3a", "shira", "supertuning",
)  # fmt: skip


@pytest.mark.parametrize(("name", "config", "settings"), CASES, ids=[name for name, *_ in CASES])
def test_what_peft_merges(name: str, config: Make, settings: Settings, tmp_path: Path) -> None:
    given = {"target_modules": NAMES, **settings}
    method(Net(), config(**given), tmp_path)
    changed = agrees_with_merged(tmp_path, tolerance=2e-5)
    wanted = set(given["target_modules"])
    assert {key.partition(".")[0] for key in changed} == wanted
    factored = name.partition("-")[0] in FACTORS and name != "miss-bat"
    assert low_rank(changed) == (set(changed) if factored else set())


TURNED: list[tuple[Make, Settings]] = [
    (peft.VeraConfig, {"r": 4, "save_projection": False}),
    (peft.RandLoraConfig, {"r": 4, "save_projection": False}),
    (peft.FourierFTConfig, {"n_frequency": 30}),
    (peft.WaveFTConfig, {"n_frequency": 30}),
    (peft.GraloraConfig, {"r": 4}),
    (peft.VBLoRAConfig, {"r": 2, "num_vectors": 9, "vector_length": 8}),
    (peft.DeftConfig, {"r": 2}),
    (peft.IA3Config, {"feedforward_modules": ["c_fc"]}),
    (peft.HiraConfig, {"r": 2}),
]


@pytest.mark.parametrize(("config", "settings"), TURNED, ids=[make.__name__ for make, _ in TURNED])
@pytest.mark.parametrize("flagged", [True, False])
def test_of_weights_stored_inputs_first(
    config: Make, settings: Settings, flagged: bool, tmp_path: Path
) -> None:
    given = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": flagged, **settings}
    method(gpt2(), config(**given), tmp_path)
    assert agrees_with_merged(tmp_path, tolerance=2e-5)
