"""Variants by the names of transformers and diffusers, read as these libraries do."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from examples import write_model
from loopback import Loopback
from shards import A, B, opened, refusal, write_index
from spectra.checkpoint import Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.checkpoint.variants import split_variant

HALF = {"a": A.half(), "b": B.half()}


def of(spec: Path | str, variant: str) -> Checkpoint:
    found, survey = open_spec(spec, variant=variant), open_damaged(spec, variant=variant)
    assert isinstance(found, Checkpoint)
    assert isinstance(survey.checkpoint, Checkpoint)
    assert survey.checkpoint.entries == found.entries
    return found


@pytest.mark.parametrize(
    ("name", "plain", "variant"),
    [
        ("model.fp16.safetensors", "model.safetensors", "fp16"),
        ("pytorch_model.fp16.bin", "pytorch_model.bin", "fp16"),
        ("diffusion_pytorch_model.non_ema.bin", "diffusion_pytorch_model.bin", "non_ema"),
        (
            "model.fp16-00001-of-00002.safetensors", "model-00001-of-00002.safetensors", "fp16"
        ),
        (
            "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
            "diffusion_pytorch_model-00001-of-00002.safetensors", "fp16",
        ),
        ("model.safetensors.index.fp16.json", "model.safetensors.index.json", "fp16"),
        ("model.fp16.safetensors.index.json", "model.safetensors.index.json", "fp16"),
        ("pytorch_model.bin.index.fp16.json", "pytorch_model.bin.index.json", "fp16"),
        ("model.safetensors", "model.safetensors", ""),
        ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors", ""),
        ("model.safetensors.index.json", "model.safetensors.index.json", ""),
        ("pytorch_model.bin.index.json", "pytorch_model.bin.index.json", ""),
        ("qwen2.5-7b.safetensors", "qwen2.5-7b.safetensors", ""),
    ],
)  # fmt: skip
def test_names(name: str, plain: str, variant: str) -> None:
    assert split_variant(name) == (plain, variant)


def test_what_transformers_saves(tmp_path: Path) -> None:
    model = BertModel(
        BertConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2,
        )
    )  # fmt: skip
    for size, folder in (("1GB", "whole"), ("10KB", "parts")):
        model.save_pretrained(tmp_path / folder, variant="fp16", max_shard_size=size)
        twin = BertModel.from_pretrained(tmp_path / folder, variant="fp16").state_dict()
        for found in (opened(tmp_path / folder), of(tmp_path / folder, "fp16")):
            assert set(found.entries) == set(twin)
            assert all(torch.equal(found.read(e), twin[n]) for n, e in found.entries.items())
            assert found.unread == ()
    index = tmp_path / "parts" / "model.safetensors.index.fp16.json"
    assert set(opened(index).entries) == set(twin)


class TestOneFolder:
    def test_without_a_variant_first(self, tmp_path: Path) -> None:
        for stem in ("model", "diffusion_pytorch_model"):
            folder = write_model(tmp_path / stem, {"a": A}, name=f"{stem}.safetensors")
            write_model(folder, HALF, name=f"{stem}.fp16.safetensors")
            assert list(opened(folder).entries) == ["a"]
            assert list(of(folder, "fp16").entries) == ["a", "b"]
            (said,) = of(folder, "fp16").unread
            assert said.tensor == f"{stem}.safetensors"
            assert said.reason.startswith("the model without a variant; ")

    def test_in_parts_by_old_names(self, tmp_path: Path) -> None:
        stem = "diffusion_pytorch_model"
        first, second = (f"{stem}-0000{n}-of-00002.fp16.safetensors" for n in (1, 2))
        write_model(tmp_path, {"a": HALF["a"]}, name=first)
        write_model(tmp_path, {"b": HALF["b"]}, name=second)
        write_index(tmp_path, {"a": first, "b": second}, f"{stem}.fp16.safetensors.index.json")
        assert list(opened(tmp_path).entries) == ["a", "b"]
        write_model(tmp_path, {"c": A}, name=f"{stem}.safetensors")
        assert list(opened(tmp_path).entries) == ["c"]
        assert list(of(tmp_path, "fp16").entries) == ["a", "b"]

    def test_any_stem_where_one_is_asked_for(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, name="unet.safetensors")
        write_model(tmp_path, HALF, name="unet.fp16.safetensors")
        assert list(of(tmp_path, "fp16").entries) == ["a", "b"]

    def test_pickles(self, tmp_path: Path) -> None:
        torch.save(HALF, tmp_path / "pytorch_model.fp16.bin")
        found = open_spec(tmp_path, allow_pickle=True, variant="fp16")
        assert isinstance(found, Checkpoint)
        assert list(found.entries) == ["a", "b"]

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        with pytest.raises(Exception, match=r"of the variant 'fp16'\. It has no variants\. Leave"):
            open_spec(tmp_path, variant="fp16")
        write_model(tmp_path, {"a": A}, name="model.bf16.safetensors")
        with pytest.raises(Exception, match=r"the variant 'fp16'\. It holds variants bf16\. "):
            open_damaged(tmp_path, variant="fp16")

    def test_several_and_none_without(self, tmp_path: Path) -> None:
        for word in ("fp16", "bf16"):
            write_model(tmp_path, {"a": A}, name=f"model.{word}.safetensors")
        text = refusal(tmp_path)
        assert text.endswith(
            "holds its weights in variants bf16, fp16: which one is meant? Give it: --variant bf16 "
            "(`variant='bf16'`)."
        )

    def test_on_the_hub(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m", {"a": A})
        write_model(folder, HALF, name="model.fp16.safetensors")
        hub.add("org/name", folder)
        assert list(opened("org/name").entries) == ["a"]
        assert list(of("org/name", "fp16").entries) == ["a", "b"]
