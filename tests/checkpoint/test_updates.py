"""Adapters of PEFT's other methods: what they hold, and what is refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import spectra
from adapters import method, pairs, planned
from spectra.checkpoint import Adapter, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import CheckpointError, SpectraError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Shapes = Mapping[str, tuple[int, ...]]

pytestmark = pytest.mark.filterwarnings("ignore:Specified to not save \\w+ and:UserWarning")


def written(folder: Path, kind: str, tensors: Shapes, **settings: object) -> Path:
    """Write an adapter by hand: shapes by the names of tensors."""
    (folder / CONFIG).write_text(json.dumps({"peft_type": kind, "r": 2, **settings}))
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, folder / WEIGHTS)
    return folder


def refusal(folder: Path) -> str:
    """Return the error's text, one plain line, the same from either way of opening."""
    texts = set()
    for way in (open_spec, open_damaged):
        with pytest.raises(CheckpointError) as caught:
            way(folder)
        texts.add(str(caught.value))
    (text,) = texts
    assert text.isprintable()
    assert text.endswith(".")
    return text


def opened(folder: Path) -> Adapter:
    found = open_spec(folder)
    assert isinstance(found, Adapter)
    return found


VERA = {"a.q.vera_lambda_b": (6,), "a.q.vera_lambda_d": (2,)}


@pytest.mark.parametrize(
    ("kind", "tensors", "settings", "words"),
    [
        ("PSOFT", {"q.psoft_R.weight": (3,)}, {}, "of type 'PSOFT', which starts from singular"),
        ("PROMPT_TUNING", {"prompt_embeddings": (3,)}, {}, "which changes no weight: it adds inp"),
        ("VERA", {"a.q.lora_A.weight": (2, 4)}, {}, "holds no tensors of VeRA in adapter_model"),
        ("VERA", {"a.q.vera_lambda_b": (6,)}, {}, "module 'a.q' lacks vera_lambda_d, which VeRA"),
        ("VERA", VERA, {"next_years": 3}, "uses the setting 'next_years' of VeRA, which is not"),
        ("VERA", VERA, {"projection_prng_key": "x"}, "projection_prng_key is 'x', expected a val"),
        ("VERA", {**VERA, "a.k.lora_A.weight": (2, 4)}, {}, "a factor of LoRA, but adapter_config"),
        ("LOHA", {"q.hada_w1_a": (4, 2), "q.hada_w1_b": (2,), "q.hada_w2_a": (4, 2),
                  "q.hada_w2_b": (2, 4)}, {"alpha": 2}, "which make no LoHa update"),
        ("LOHA", {"q.hada_w1_a": (4, 2), "q.hada_w1_b": (2, 4), "q.hada_w2_a": (4, 2),
                  "q.hada_w2_b": (2, 4)}, {"alpha": "x"}, "alpha of 'q' is 'x', expected a number"),
        ("IA3", {"q.ia3_l": (1, 4, 1, 1)}, {"feedforward_modules": "q.*"}, "a pattern for feedfor"),
        ("SHIRA", {"q.shira_weight": (0,), "q.shira_indices": (2, 0)}, {}, "without elements"),
        ("TINYLORA", {"q.tinylora_A": (2, 4), "q.tinylora_B": (4, 2), "tinylora_v.0": (3,)}, {},
         "lacks tinylora_P, which TinyLoRA needs"),
    ],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, kind: str, tensors: Shapes, settings: dict[str, object], words: str
) -> None:
    assert words in refusal(written(tmp_path, kind, tensors, **settings))


@pytest.mark.parametrize(
    ("kind", "tensors", "settings", "words"),
    [
        ("WAVEFT", {"q.waveft_spectrum": (3,)}, {"wavelet_family": "sym4"}, "the wavelet sym4"),
        ("PEANUT", {"q.peanut_A.weight": (2, 4), "q.peanut_B.weight": (4, 2)},
         {"act_fn": "mish"}, "the activation mish"),
        ("LOKR", {"q.lokr_w1": (2, 2), "q.lokr_w2": (2, 2, 3)}, {"alpha": 1}, "a Conv1d's lokr_w2"),
        ("TINYLORA", {"q.tinylora_A": (2, 4), "q.tinylora_B": (4, 2), "q.tinylora_P": (3, 2, 2),
                      "tinylora_v.0": (3,), "tinylora_v.1": (3,)}, {}, "several shared vectors"),
    ],
)  # fmt: skip
def test_modules_that_are_named_and_not_read(
    tmp_path: Path, kind: str, tensors: Shapes, settings: dict[str, object], words: str
) -> None:
    found = opened(written(tmp_path, kind, tensors, **settings))
    assert not found.updates
    (told,) = (item for item in found.skipped if item.tensor == "q")
    assert words in told.reason


class Net(nn.Module):
    """Two layers of unlike size, one of which a base may lack."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(8, 6), nn.Linear(12, 10)


def test_shared_matrices_that_are_drawn_need_every_module(tmp_path: Path) -> None:
    method(Net(), peft.VeraConfig(target_modules=["small", "large"], r=3, save_projection=False),
           tmp_path)  # fmt: skip
    net = Net()
    save_file({"small.weight": net.small.weight}, tmp_path / "small.safetensors")
    with pytest.raises(SpectraError, match="drawn by the sizes of all its modules"):
        planned(tmp_path, "small.safetensors")


def test_a_base_of_another_size(tmp_path: Path) -> None:
    method(Net(), peft.HRAConfig(target_modules=["small"], r=2), tmp_path)
    save_file({"small.weight": torch.ones(6, 9)}, tmp_path / "wide.safetensors")
    with pytest.raises(SpectraError, match=r"is 6 x 9 there and the HRA update \? x 8 here"):
        planned(tmp_path, "wide.safetensors")


def test_parts_that_only_the_base_proves_wrong(tmp_path: Path) -> None:
    written(tmp_path, "SHIRA", {"q.shira_weight": (2,), "q.shira_indices": (2, 2)})
    save_file({"q.shira_weight": torch.ones(2), "q.shira_indices": torch.tensor([[1, 9], [0, 1]])},
              tmp_path / WEIGHTS)  # fmt: skip
    save_file({"q.weight": torch.ones(4, 4)}, tmp_path / "base.safetensors")
    with pytest.raises(CheckpointError, match=r"make no update of a weight \[4, 4\]"):
        spectra.diff(tmp_path / "base.safetensors", tmp_path)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
def test_norms_and_new_rows_alone(tmp_path: Path) -> None:
    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.table = nn.LayerNorm(4), nn.Embedding(5, 4)

    method(Norms(), peft.LNTuningConfig(target_modules=["norm"]), tmp_path)
    found = opened(tmp_path / "adapter")
    assert (set(found.saved), found.method) == ({"norm.weight", "norm.bias"}, "LN tuning")
    other = tmp_path / "rows"
    other.mkdir()
    settings = peft.TrainableTokensConfig(target_modules=["table"], token_indices=[1, 3])
    method(Norms(), settings, other)
    (pair,) = pairs(planned(other)).values()
    moved = (pair.tuned_exact() != pair.base).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 3]


def test_a_module_without_rank_left_by_adalora(tmp_path: Path) -> None:
    sizes = {"lora_A": (2, 4), "lora_B": (4, 2), "lora_E": (2, 1)}
    none = {"lora_A": (0, 4), "lora_B": (4, 0), "lora_E": (0, 1)}
    tensors = {f"{module}.{part}": shape for module, own in (("q", sizes), ("k", none))
               for part, shape in own.items()}  # fmt: skip
    settings = {"init_r": 2, "lora_alpha": 4, "rank_pattern": {"k.lora_E": [False]}}
    assert set(opened(written(tmp_path, "ADALORA", tensors, **settings)).updates) == {"q"}


def test_ls_says_which_method(tmp_path: Path) -> None:
    written(tmp_path, "VERA", {**VERA, "base_model.vera_A": (2, 4), "base_model.vera_B": (6, 2)})
    reading = str(spectra.ls(tmp_path).summary["reading"])
    assert reading.startswith("An adapter (VeRA) on 1 modules.")
