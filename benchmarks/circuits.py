"""Heads and their composition against TransformerLens: whole commands, seconds and peak memory.

With one thread a side, and with as many as there are cores.
A random GPT-2 and a random Llama of its size with grouped queries. The peer loads the model, folds
its norms and computes the singular values of OV and QK and the scores of all pairs, as its
documentation shows. It is no dependency: run this with a Python that has `transformer_lens` beside
ours.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

RUNS = 3
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
EVERY = 1_000_000  # pairs: all of them
PEER = """
import sys, torch
from transformers import AutoModelForCausalLM
from transformer_lens.model_bridge import TransformerBridge

own = AutoModelForCausalLM.from_pretrained(sys.argv[1], attn_implementation="eager")
model = TransformerBridge.boot_transformers(
    sys.argv[1], hf_model=own, device="cpu", dtype=torch.float32
)
model.enable_compatibility_mode(disable_warnings=True, center_writing_weights=False)
with torch.no_grad():
    found = {"ov": model.OV.S, "qk": model.QK.S}
    found |= {kind.lower(): model.all_composition_scores(kind).scores for kind in "QKV"}
torch.save(found, sys.argv[2])
"""


def main() -> None:
    try:
        import transformer_lens  # noqa: F401, PLC0415 - no dependency
    except ImportError as error:
        raise SystemExit(f"{error}. Install transformer_lens beside spectra to compare.") from None
    print("| model | threads | side | seconds | GiB |\n|---|---|---|---|---|")
    lines = []
    with TemporaryDirectory() as place:
        for name in ("GPT-2", "Llama, 4 heads of keys"):
            folder = Path(place) / name[:5]
            grouped = name != "GPT-2"
            made = get_context("spawn").Process(target=write, args=(folder, grouped))
            made.start()  # aside: what this process holds counts as its children's
            made.join()
            told, theirs = Path(place) / "told.json", Path(place) / "theirs.pt"
            heads = [sys.executable, "-m", "spectra", "heads", str(folder), "--compose", "-q"]
            sides = (
                ("spectra", [*heads, "--no-cache", "-o", str(told)]),
                ("TransformerLens", [sys.executable, "-c", PEER, str(folder), str(theirs)]),
            )
            for threads in (1, os.cpu_count() or 1):
                times: dict[str, list[tuple[float, float]]] = {side: [] for side, _ in sides}
                for _ in range(RUNS):
                    for side, words in sides:
                        crew = ["--workers", str(threads)] if side == "spectra" else []
                        times[side].append(run([*words, *crew], threads))
                for side, found in times.items():
                    took, most = (statistics.median(one) for one in zip(*found, strict=True))
                    print(f"| {name} | {threads} | {side} | {took:.2f} | {most:.2f} |", flush=True)
            run([*sides[0][1], "--strongest", str(EVERY)])
            lines.append(f"{name}: {agreement(told, theirs)}")
    print("\n" + "\n".join(lines))


def write(folder: Path, grouped: bool) -> None:
    """Write a model of random weights, norms included, and a tokenizer, which the peer wants."""
    import transformers  # noqa: PLC0415 - of development alone
    from tokenizers import Tokenizer, models  # noqa: PLC0415

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    if grouped:
        config = transformers.LlamaConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            num_key_value_heads=4,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    with torch.no_grad():
        for own in model.parameters():
            if own.ndim == 1:
                own.add_(0.3 * torch.randn_like(own))
    model.save_pretrained(folder)
    unknown = {"unk_token": "."}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({".": 0}, **unknown)), **unknown
    ).save_pretrained(folder)


def run(command: Sequence[str], threads: int | None = None) -> tuple[float, float]:
    """Return a command's seconds, and GiB at its peak."""
    start = time.perf_counter()
    quiet = subprocess.DEVNULL
    own = {} if threads is None else dict.fromkeys(LIMITS, str(threads))
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, **own})
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:4])} failed")
    unit = 1 << (30 if sys.platform == "darwin" else 20)
    return time.perf_counter() - start, used.ru_maxrss / unit


def agreement(told: Path, theirs: Path) -> str:
    """Say how far both are apart at most."""
    document, found = json.loads(told.read_text()), torch.load(theirs)
    pairs = document["summary"]["composition"]["strongest"]
    worst = {"scores": max(
        abs(one["score"] / float(found[one["kind"]][
            one["writer_layer"], one["writer_head"], one["reader_layer"], one["reader_head"]
        ]) - 1.0) for one in pairs
    )}  # fmt: skip
    for key in ("ov", "qk"):
        apart = 0.0
        for row in document["rows"]:
            sigma = found[key][row["layer"], row["head"]].double()
            own = {f"{key}_sigma_max": sigma[0], f"{key}_frobenius": sigma.norm()}
            apart = max(apart, *(abs(row[name] / float(one) - 1.0) for name, one in own.items()))
        worst[key] = apart
    apart_at_most = ", ".join(f"{name} {apart:.1e}" for name, apart in worst.items())
    return (f"{len(pairs):,} scores, {len(document['rows'])} heads; "
            f"largest relative difference: {apart_at_most}")  # fmt: skip


if __name__ == "__main__":
    main()
