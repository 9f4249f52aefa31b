"""What 671 billion parameters take, from rates that are measured on matrices of their shapes.

A matrix of each shape or two, of fp8 with scales by blocks, are measured by every
command; dry runs of the whole model then go by what these took.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from benchmarks.clock import unmeasured
from benchmarks.deepseek import BLOCK, CONFIG, write
from benchmarks.pairs import orthonormal

HEAD, RANK = 128, 16
SHAPES = {
    "self_attn.q_a_proj": (1536, 7168), "self_attn.q_b_proj": (24576, 1536),
    "self_attn.kv_a_proj_with_mqa": (576, 7168), "self_attn.kv_b_proj": (32768, 512),
    "self_attn.o_proj": (7168, 16384), "mlp.experts.0.gate_proj": (2048, 7168),
    "mlp.experts.0.up_proj": (2048, 7168), "mlp.experts.0.down_proj": (7168, 2048),
}  # fmt: skip
COMMANDS = {
    "spectrum": ["spectrum", "{base}"],
    "kappa": ["kappa", "{base}"],
    "diff": ["diff", "{base}", "{tuned}"],
    "diff --intruders": ["diff", "{base}", "{tuned}", "--intruders"],
    "check --base": ["check", "{tuned}", "--base", "{base}"],
}
INSIDE = ["--exclude", "lm_head*", "--exclude", "*embed_tokens*"]


def main() -> None:
    with TemporaryDirectory() as name, unmeasured() as environment:
        folder = Path(name)
        layer(folder / "layer")
        for side in ("base", "tuned"):
            write(folder / "whole" / side)
        for words in COMMANDS.values():
            spectra(words, folder / "layer", environment)
        print("| command | matrices | to read | memory | one worker's work | 2 workers | "
              "4 | 16 | 64 | longest matrix | planned in |")  # fmt: skip
        print("|---" * 11 + "|", flush=True)
        for command, words in COMMANDS.items():
            inside = [] if words[0] == "check" else INSIDE
            row(command, [*words, *inside], folder / "whole", environment)


def row(name: str, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    told = json.loads(
        spectra([*words, "--dry-run", "--workers", "2", "--format", "json"], folder, environment)
    )
    one = json.loads(
        spectra([*words, "--dry-run", "--workers", "1", "--format", "json"], folder, environment)
    )
    found, alone = told["dry_run"], one["dry_run"]
    hours = [(alone, alone["seconds"]), (found, found["seconds"]),
             *((found, took) for took in found["others"].values())]  # fmt: skip
    cells = [
        name,
        f"{found['matrices']:,}",
        f"{found['nbytes'] / 1e9:,.0f} GB",
        f"{found['memory'] / 1e9:.1f} GB",
        *(f"{(took - of['start']) / of['busy'] / 3600:.2f} h" for of, took in hours),
        f"{found['longest'] / found['busy']:.0f} s",
        f"{found['start'] / found['busy']:.0f} s",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def layer(folder: Path) -> None:
    """Write a few matrices of the model's shapes, and what a fine-tune made of them."""
    source = torch.Generator().manual_seed(0)
    sides: dict[str, dict[str, torch.Tensor]] = {"base": {}, "tuned": {}}
    for module, (rows, cols) in SHAPES.items():
        # A head of directions on a bulk of noise, as trained weights have, and a low rank on both.
        edge = rows**0.5 + cols**0.5
        sigma = edge * (0.8 + 4.0 * torch.arange(1.0, HEAD + 1.0) ** -0.6)
        left, right = orthonormal(rows, HEAD, source), orthonormal(cols, HEAD, source)
        values = torch.randn(rows, cols, generator=source).addmm_(left * sigma, right.mT)
        up = torch.randn(rows, RANK, generator=source) / rows**0.5
        moved = values + 0.3 * edge * up @ orthonormal(cols, RANK, source).mT
        scale = torch.full((-(-rows // BLOCK), -(-cols // BLOCK)), 1e-3)
        for side, one in (("base", values), ("tuned", moved)):
            name = f"model.layers.0.{module}.weight"
            sides[side][name] = (one * 16.0).clamp(-440.0, 440.0).to(torch.float8_e4m3fn)
            sides[side][f"{name}_scale_inv"] = scale.clone()
    for side, tensors in sides.items():
        (folder / side).mkdir(parents=True)
        save_file(tensors, folder / side / "model.safetensors", metadata={"format": "pt"})
        (folder / side / "config.json").write_text(json.dumps(CONFIG))


def spectra(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    line = [word.format(base=folder / "base", tuned=folder / "tuned") for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "spectra_cli", *line, "-q"], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: a check that found something
        sys.exit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
