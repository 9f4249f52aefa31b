"""Write adapters as LyCORIS saves them, and what it merges of them.

Run with LyCORIS 4.1 (`pip install lycoris-lora einops`), which the tests do without:
`python tests/data/lycoris/write.py`.
"""

from pathlib import Path

import torch
from lycoris import (  # type: ignore[import-not-found]
    LycorisNetwork,
    create_lycoris,
)
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
WAYS: dict[str, dict[str, bool | str | int]] = {
    "plain": {},
    "tucker": {"use_tucker": True},
    "dora": {"dora_wd": True},
    "rs": {"rs_lora": True},
    "dora_in": {"dora_wd": True, "wd_on_output": False},
    "loha": {"algo": "loha"},
    "loha_tucker": {"algo": "loha", "use_tucker": True},
    "lokr": {"algo": "lokr", "factor": 2},
    "lokr_both": {
        "algo": "lokr",
        "factor": 4,
        "decompose_both": True,
        "linear_dim": 1,
        "conv_dim": 1,
        "use_tucker": True,
    },
    "lokr_whole": {"algo": "lokr", "factor": 2, "full_matrix": True},
}


class Attention(nn.Module):
    """Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(8, 8, bias=False), nn.Linear(6, 8, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(8, 8)])


class Residual(nn.Module):
    """Convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv_shortcut = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 1)


class Net(nn.Module):
    """Named like a UNet; `mid.attn_1.to_q` has an underscore of its own."""

    def __init__(self) -> None:
        super().__init__()
        block = {"resnets": nn.ModuleList([Residual()]), "attentions": nn.ModuleList([Attention()])}
        self.down_blocks = nn.ModuleList([nn.ModuleDict(block)])
        self.mid = nn.ModuleDict({"attn_1": Attention()})


def main() -> None:
    preset = {"target_module": ["Attention", "Residual"], "lora_prefix": "lora_unet"}
    for name, settings in WAYS.items():
        torch.manual_seed(3)
        net = Net()
        base = {key: value.clone() for key, value in net.state_dict().items()}
        LycorisNetwork.apply_preset(preset)
        sizes = {"linear_dim": 3, "linear_alpha": 2.0, "conv_dim": 2, "conv_alpha": 3.0}
        wrapped = create_lycoris(net, 1.0, **{"algo": "lora", **sizes, **settings})
        wrapped.apply_to()
        torch.manual_seed(4)
        for key, value in wrapped.named_parameters():
            if "dora" in key:
                value.data.mul_(1 + 0.3 * torch.rand_like(value))
            else:
                value.data.normal_(std=0.3)
        found = {key: value.clone().contiguous() for key, value in wrapped.state_dict().items()}
        wrapped.restore()
        if "algo" in settings:  # merging scales these twice, training once
            with torch.no_grad():
                for module in wrapped.loras:
                    module.org_module[0].weight += module.get_weight(module.shape)
        else:
            wrapped.merge_to(1.0)
        merged = {key: value.contiguous() for key, value in net.state_dict().items() if key in base}
        save_file(base, HERE / "base.safetensors")
        save_file(found, HERE / f"{name}.safetensors", {"ss_network_module": "lycoris.kohya"})
        if name != "dora_in":  # which is refused
            save_file(merged, HERE / f"{name}_merged.safetensors")


if __name__ == "__main__":
    main()
