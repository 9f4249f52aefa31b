"""What is written of models from elsewhere: repositories of the Hub, partly quantised ones."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import spectra
import spectra.lowrank as low
from loopback import Loopback, taken_for_the_hub
from spectra.errors import UsageError

from .test_repairing import llama, lora, sick

Writer = Callable[[str, str, str, Path], spectra.Result]
WRITERS: dict[str, Writer] = {
    "init": lambda base, _, __, out: low.init("pissa", base, out, rank=2),
    "difference": lambda base, _, __, out: low.init("milora", base, out, rank=2, form="difference"),
    "mask": lambda base, tuned, _, out: low.mask(base, out, rank=2, tuned=tuned, form="shira"),
    "repair": lambda base, tuned, _, out: low.repair(base, tuned, out),
    "refit": lambda base, _, adapter, out: low.repair(base, adapter, out, scale=0.5),
    "merged": lambda base, _, adapter, out: low.repair(base, adapter, out, merged=True),
    "resize": lambda _, __, adapter, out: low.resize(adapter, out, rank=2),
    "extract": lambda base, tuned, _, out: low.extract(base, tuned, out, rank=2),
}
TOLD = ("spectra_provenance.json", "adapter_config.json")  # who was asked


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of several shards, and an adapter."""
    folder = tmp_path_factory.mktemp("models")
    lora(llama(), folder)
    sick(llama(), folder / "more", ("q_proj", "up_proj"), max_shard_size="60KB")
    for name in ("base", "tuned"):
        (folder / "more" / name / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def hub(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with taken_for_the_hub(tmp_path_factory.mktemp("home")) as server:
        server.add("org/base", models / "more" / "base")
        server.add("org/tuned", models / "more" / "tuned")
        server.add("org/adapter", models / "a")
        yield server


def held(place: Path) -> dict[str, object]:
    """Return what a folder holds, of tensors their values."""
    files = [one for one in place.rglob("*") if one.is_file() and one.name not in TOLD]
    return {
        str(one.relative_to(place)):
        {name: (values.dtype, values.tolist()) for name, values in load_file(one).items()}
        if one.suffix == ".safetensors" else one.read_bytes()
        for one in files
    }  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_of_a_repository_the_same_is_written(
    name: str, models: Path, hub: Loopback, tmp_path: Path
) -> None:
    write, here = WRITERS[name], models / "more"
    far = write("org/base", "org/tuned", "org/adapter", tmp_path / "far")
    near = write(str(here / "base"), str(here / "tuned"), str(models / "a"), tmp_path / "near")
    assert held(tmp_path / "far") == held(tmp_path / "near")
    assert [row.values for row in far.rows] == [row.values for row in near.rows]
    assert far.skipped == near.skipped


def quantised(folder: Path, word: str) -> None:
    """Store weights as blocks of fp8 whose names have a word."""
    path = folder / "model.safetensors"
    found = load_file(path)
    for name in [name for name in found if word in name]:
        rows, cols = found[name].shape
        blocks = found[name].reshape(rows // 16, 16, cols // 16, 16)
        scale = blocks.abs().amax((1, 3)) / 448
        stored = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        found |= {name: stored.reshape(rows, cols), f"{name}_scale_inv": scale}
    save_file(found, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (folder / "config.json").write_text(json.dumps(config))


def test_what_is_quantised_stays_and_is_named(tmp_path: Path) -> None:
    lora(llama(), tmp_path)
    sick(llama(), tmp_path, ("q_proj", "up_proj"))
    base, tuned, adapter = (tmp_path / name for name in ("base", "tuned", "a"))
    for one in (base, tuned):
        quantised(one, "q_proj")
    before = load_file(base / "model.safetensors")
    coded = {name for name in before if "q_proj" in name}
    named = {name for name in coded if name.endswith("weight")}

    found = low.init("pissa", base, tmp_path / "init", rank=2)
    told = {one.tensor for one in found.skipped if "which cannot hold its residual" in one.reason}
    made = load_file(tmp_path / "init" / "model.safetensors")
    assert told == named
    assert {name for name in made if torch.equal(made[name].float(), before[name].float())} >= coded

    found = low.init("pissa", base, tmp_path / "difference", rank=2, form="difference")
    assert named <= {row.matrix for row in found.rows}
    found = low.mask(base, tmp_path / "masks", rank=2)
    assert named <= {row.matrix for row in found.rows}

    found = low.repair(base, tuned, tmp_path / "repaired")
    told = {one.tensor for one in found.skipped if one.reason.endswith("it is stored quantised")}
    made, before = (load_file(one / "model.safetensors") for one in (tmp_path / "repaired", tuned))
    assert told == named
    changed = {name for name in made if not torch.equal(made[name].float(), before[name].float())}
    assert changed == {name for name in made if "up_proj" in name}

    assert low.repair(base, adapter, tmp_path / "refit", scale=0.5).summary["repaired"]
    for some in ((), "*q_proj*"):
        with pytest.raises(
            UsageError, match=r"is quantised \(.*q_proj.* not written in its scheme"
        ):
            low.repair(base, adapter, tmp_path / "merged", merged=True, exclude=some)
