"""MiniLM against its adapter: every verdict and kappa against plain float64 SVDs."""

import json

import torch
from safetensors.torch import load_file

import spectra
from benchmarks.models import ADAPTER, minilm


def main() -> None:
    base = load_file(minilm() / "model.safetensors")
    adapter = load_file(ADAPTER / "adapter_model.safetensors")
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    result = spectra.diff(minilm(), ADAPTER, intruders=True, cache=False)
    worst = 0.0
    verdicts = wrong = published = 0
    for row in result.rows:
        detail = row.values["intruder_detail"]
        if not isinstance(detail, list) or not detail:
            continue
        module = "base_model.model.bert." + row.matrix.removesuffix(".weight")
        b, a = (adapter[f"{module}.lora_{half}.weight"].double() for half in "BA")
        before = base[row.matrix].double()
        left0 = torch.linalg.svd(before, full_matrices=False).U
        left1 = torch.linalg.svd(before + scale * b @ a, full_matrices=False).U
        expected = (left0.mT @ left1[:, :10]).abs().amax(dim=0)
        for found, cosine in zip(detail, expected.tolist(), strict=True):
            worst = max(worst, abs(float(found["max_cos"]) - cosine))  # type: ignore[arg-type]
            wrong += found["intruder"] != (cosine < 0.5)
            verdicts += 1
            published += cosine < 0.5
    print(f"intruders: {result.summary['intruders']} found, {published} by the published formula")
    print(f"verdicts:  {verdicts}, {wrong} differ; |cos| off by at most {worst:.1e} (at most 1e-4)")
    off = 0.0
    rows = spectra.kappa(minilm(), cache=False).rows
    for row in rows:
        sigma = torch.linalg.svdvals(base[row.matrix].double())
        kappa = float(sigma[0] / sigma[-1])
        off = max(off, abs((row.number("kappa") or 0.0) / kappa - 1.0))
    print(f"kappa:     {len(rows)} matrices, off by at most {off:.1e} relative (at most 1e-3)")
