"""What became of every tensor between two models, and what hashes cannot tell."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import snapshot_download
from torch import Tensor

import spectra
from examples import write_model
from loopback import Loopback, taken_for_the_hub
from shards import FIRST, SECOND, write_index
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Pair
from spectra.work import store as stores
from spectra.work.load import Loader

NAMES = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(4)]
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A hub, and a store of its own in whose eyes files have settled."""
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(stores, "SETTLED", -1.0)
    with taken_for_the_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture
def tensors(generator: torch.Generator) -> dict[str, Tensor]:
    found = {name: torch.randn(16, 8, generator=generator) for name in NAMES}
    return {**found, NORM: torch.ones(16)}


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """Write two shards: the first holds layers 0 and 1."""
    shards = {name: FIRST if ".0." in name or ".1." in name else SECOND for name in tensors}
    for shard in (FIRST, SECOND):
        part = {name: one for name, one in tensors.items() if shards[name] == shard}
        write_model(folder, part, '{"model_type": "llama"}', name=shard)
    return write_index(folder, shards)


def became(result: spectra.Result, word: str) -> list[str]:
    return [row.matrix for row in result.rows if row.values["became"] == word]


def test_hashes_tell_what_is_the_same_and_digests_what_changed(
    hub: Loopback, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    hub.add("org/m", write(tmp_path / "v1", tensors), "v1")
    tensors[NAMES[3]] = tensors[NAMES[3]] + 1
    hub.add("org/m", write(tmp_path / "v2", tensors), "v2")
    headers = spectra.ls("org/m@v1", "org/m@v2")
    asked = {shard: [one.range for one in hub.on("cdn") if shard in one.path]
             for shard in (FIRST, SECOND)}  # fmt: skip
    assert len(asked[SECOND]) == 2 * 2
    assert len(set(asked[FIRST])) == 2
    assert len(asked[FIRST]) == 3  # what is the same has its header read once
    assert became(headers, "same") == [NORM, *NAMES[:2]]
    assert became(headers, "unknown") == NAMES[2:]
    assert headers.summary["unknown_bytes"] == 2 * 16 * 8 * 4
    assert [one["became"] for one in headers.summary["files"]] == ["same", "changed"]
    assert "Whether 2 of equal shape changed is not known without reading" in str(
        headers.summary["reading"]
    )
    for spec in ("org/m@v1", "org/m@v2"):
        spectra.spectrum(spec, layers="2-3")
    hub.forget()
    known = spectra.ls("org/m@v1", "org/m@v2")
    assert became(known, "same") == [NORM, *NAMES[:3]]
    assert became(known, "changed") == NAMES[3:]
    assert sum(one.sent for one in hub.on("cdn")) < 3_000  # headers
    # What is here and was read is compared with what lies there.
    spectra.spectrum(tmp_path / "v2", layers="2-3")
    here = spectra.ls("org/m@v1", tmp_path / "v2")
    assert became(here, "changed") == NAMES[3:]
    assert became(here, "same") == NAMES[2:3]
    assert became(here, "unknown") == [NORM, *NAMES[:2]]
    # In the Hub's own cache a file has its hash.
    snapshot_download("org/m", revision="v2")
    assert became(spectra.ls("org/m@v2", "org/m@v2"), "same") == [NORM, *NAMES]


def test_a_file_that_two_revisions_share_is_read_once(
    hub: Loopback, tmp_path: Path, generator: torch.Generator
) -> None:
    tensors = {name: torch.randn(64, 64, generator=generator) for name in NAMES}
    hub.add("org/m", write(tmp_path / "v1", tensors), "v1")
    tensors[NAMES[3]] = tensors[NAMES[3]] + 1
    hub.add("org/m", write(tmp_path / "v2", tensors), "v2")
    plan = spectra.diff.plan("org/m@v1", "org/m@v2", workers=2)
    hub.forget()
    assert plan.estimate().nbytes == 6 * 64 * 64 * 4
    found = plan.run()
    assert sum(one.sent for one in hub.on("cdn")) == 6 * 64 * 64 * 4
    here = spectra.diff(tmp_path / "v1", tmp_path / "v2", cache=False)
    assert [row.values for row in found.rows] == [row.values for row in here.rows]
    # Sent elsewhere, each side still has its own file.
    for task in plan.question.plan.tasks:
        sent = pickle.loads(pickle.dumps(task.portable()))
        pair = Loader([sent]).load(sent).subject("cpu")
        assert isinstance(pair, Pair)
        assert torch.equal(pair.tuned_exact(), tensors[task.place.matrix].double())


def test_one_file_that_two_revisions_decode_otherwise_is_not_shared(
    hub: Loopback, tmp_path: Path, generator: torch.Generator
) -> None:
    coded = {
        NAMES[0]: torch.randn(4, 6, generator=generator).to(torch.float8_e4m3fn),
        f"{NAMES[0]}_scale_inv": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    }
    for revision, block in (("v1", [2, 3]), ("v2", [3, 4])):
        settings = {"quant_method": "fp8", "weight_block_size": block}
        config = json.dumps({"model_type": "llama", "quantization_config": settings})
        hub.add("org/m", write_model(tmp_path / revision, coded, config), revision)
    found = spectra.diff("org/m@v1", "org/m@v2", cache=False)
    here = spectra.diff(tmp_path / "v1", tmp_path / "v2", cache=False)
    assert found.rows[0].number("delta_norm")
    assert [row.values for row in found.rows] == [row.values for row in here.rows]


def test_headers_tell_the_rest(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    before = write(tmp_path / "a", tensors)
    changed = {f"bert.{name}": one for name, one in tensors.items()}
    changed[f"bert.{NAMES[0]}"] = changed[f"bert.{NAMES[0]}"].bfloat16()
    changed[f"bert.{NAMES[1]}"] = changed[f"bert.{NAMES[1]}"][:8]
    del changed[f"bert.{NAMES[2]}"]
    changed["bert.new.weight"] = torch.tensor(2.0)
    result = spectra.ls(before, write_model(tmp_path / "b", changed))
    assert became(result, "recast") == [f"bert.{NAMES[0]}"]
    assert became(result, "reshaped") == [f"bert.{NAMES[1]}"]
    assert became(result, "removed") == [NAMES[2]]
    assert became(result, "added") == ["bert.new.weight"]
    rows = {row.matrix: row.values for row in result.rows}
    assert rows[f"bert.{NAMES[1]}"]["was"] == "16 x 8 F32"
    assert rows["bert.new.weight"]["now"] == "scalar F32"
    assert "Nothing changed: 5 tensors" in str(spectra.ls(before, before).summary["reading"])
    some = spectra.ls(before, tmp_path / "b", layers="1", role="mlp")
    assert [row.matrix for row in some.rows] == [f"bert.{NAMES[1]}"]
    with pytest.raises(NothingToAnalyseError, match="layers are 0 to 3"):
        spectra.ls(before, tmp_path / "b", layers="9")


def test_an_adapter_and_a_model_share_nothing(minilm: Path, minilm_lora: Path) -> None:
    with pytest.raises(UsageError, match="they share no tensors"):
        spectra.ls(minilm, minilm_lora)
