"""Files made to hang, to fill the memory or to reach elsewhere: one line, soon, and no more."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from shards import FIRST, INDEX, SECOND, A, B, opened, refusal, write_index, write_shards
from spectra.checkpoint.documents import MAX_INDEX, MAX_VALUES
from spectra.errors import CheckpointError, SpectraError

MEASURED = """
import resource, sys
from spectra.checkpoint import open_spec
from spectra.errors import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(open_spec(sys.argv[1]).entries), end=" opened ")
except CheckpointError as error:
    print(error, end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measured(spec: Path) -> tuple[str, int]:
    """Open in a process of its own; return what was said and the MiB it took."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(spec)], capture_output=True, text=True, check=True
    )
    said, mebibytes = run.stdout.strip().rsplit(" ", 1)
    return said, int(mebibytes)


def write_header(path: Path, header: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


class TestHeaders:
    @pytest.mark.parametrize(
        "unit",
        [b"1,", b"[],", b"{},", b'"",', b"[[]],"],
        ids=["numbers", "lists", "objects", "texts", "nested"],
    )
    def test_a_hundred_megabytes_of_small_values(self, tmp_path: Path, unit: bytes) -> None:
        header = b'{"a":[' + unit * (99_999_000 // len(unit)) + b"1]}"
        said, mebibytes = measured(write_header(tmp_path / "x.safetensors", header))
        assert f"values, and at most {MAX_VALUES:,} are read" in said
        assert mebibytes < 400

    def test_a_hundred_megabytes_of_one_text(self, tmp_path: Path) -> None:
        header = b'{"__metadata__":{"a":"' + b"x" * 99_999_000 + b'"}}'
        said, mebibytes = measured(write_header(tmp_path / "x.safetensors", header))
        assert said == "0 opened"
        assert mebibytes < 600

    def test_as_many_tensors_as_a_real_file_never_has(self, tmp_path: Path) -> None:
        facts = '"%06d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
        header = "{" + ",".join(facts % number for number in range(100_000)) + "}"
        said, mebibytes = measured(write_header(tmp_path / "x.safetensors", header.encode()))
        assert said == "100000 opened"
        assert mebibytes < 300

    @pytest.mark.parametrize("claimed", [100_000_000, 1 << 40, (1 << 64) - 1])
    def test_what_a_header_claims_is_not_allocated(self, tmp_path: Path, claimed: int) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", claimed) + b"{}")
        assert measured(path)[1] < 20

    def test_a_tensor_larger_than_the_file_is_refused_before_it_is_read(
        self, tmp_path: Path
    ) -> None:
        facts = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
        path = write_header(tmp_path / "x.safetensors", facts)
        assert "needs 4,398,046,511," in measured(path)[0]

    def test_names_that_move_the_cursor_reach_no_message(self, tmp_path: Path) -> None:
        name = "\x1b]0;x\x07\x1b[2J\r\n\u202e.weight"
        write_model(tmp_path / "a", {name: torch.ones(4, 4)})
        write_model(tmp_path / "b", {name: torch.ones(4, 6)})
        with pytest.raises(SpectraError) as caught:
            spectra.diff(tmp_path / "a", tmp_path / "b")
        assert str(caught.value).isprintable()


class TestDocuments:
    def test_a_config_of_a_gigabyte(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        with (tmp_path / "config.json").open("wb") as file:
            file.truncate(1 << 30)
        said, mebibytes = measured(tmp_path)
        assert "config.json has 1,073,741,824 bytes, and at most 10,000,000 are read" in said
        assert mebibytes < 20

    @pytest.mark.parametrize("opening", ["[", '{"a":', '{"model_type":[', '{"a":"'])
    def test_a_config_nested_without_end(self, tmp_path: Path, opening: str) -> None:
        write_model(tmp_path, {"a": A})
        (tmp_path / "config.json").write_text(opening * 100_000)
        assert "config.json is not JSON: " in refusal(tmp_path)

    def test_a_config_that_closes_what_it_nests(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a.weight": A})
        deep = '{"text_config":' * 400 + "{}" + "}" * 400
        (tmp_path / "config.json").write_text(deep)
        assert len(spectra.ls(tmp_path).rows) == 1

    def test_an_index_of_small_values(self, tmp_path: Path) -> None:
        (tmp_path / INDEX).write_bytes(b'{"weight_map":[' + b"[]," * 33_000_000 + b"1]}")
        said, mebibytes = measured(tmp_path)
        assert f"values, and at most {MAX_VALUES:,} are read" in said
        assert mebibytes < 300

    def test_an_index_that_is_too_large(self, tmp_path: Path) -> None:
        with (tmp_path / INDEX).open("wb") as file:
            file.truncate(MAX_INDEX + 1)
        assert "and at most 100,000,000 are read" in refusal(tmp_path)

    def test_an_index_of_many_tensors(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        names = {f"model.layers.{number}.weight": FIRST for number in range(300_000)}
        write_index(tmp_path, {"a": FIRST, "b": SECOND, **names})
        said, mebibytes = measured(tmp_path)
        assert said == "2 opened"
        assert mebibytes < 400

    def test_an_index_of_many_files_that_are_not_there(self, tmp_path: Path) -> None:
        write_index(tmp_path, {str(n): f"{n}.safetensors" for n in range(100_000)})
        assert "names '0.safetensors', which is not in its folder" in refusal(tmp_path)


ODD: list[object] = [
    None, True, -1, 0, 1, 0.5, -0.0, 1e308, 1 << 70, -(1 << 70), "", "x", "gpt2", "\x1b[2J",
    [], [1], [[]], {}, {"a": 1}, {"model_type": []}, ["gpt2"], {"quant_method": 3},
    {"quant_method": "fp8", "weight_block_size": "x"}, {"weight_block_size": [0, -1]},
    {"quant_method": "gptq", "bits": {}, "group_size": 0}, {"quant_method": "awq", "bits": "4"},
    {"quant_method": "compressed-tensors", "config_groups": [1]},
    {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": []}}}},
    {"quant_method": "mxfp4"}, {"quant_method": "bitsandbytes", "load_in_4bit": "x"},
]  # fmt: skip
KEYS = [
    "model_type", "text_config", "quantization_config", "num_attention_heads", "n_head",
    "num_key_value_heads", "hidden_size", "head_dim", "new_decoder_architecture", "multi_query",
    "num_local_experts", "architectures", "compression_config", "num_experts",
]  # fmt: skip
FAMILIES = ["gpt2", "gpt_neox", "bloom", "falcon", "phi3", "mixtral", "llama4_text", "gpt_oss",
            "dbrx", "qwen3_5_moe", "llama", "bert"]  # fmt: skip


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in which every layout that a family's rule knows is named."""
    shapes = {
        "h.0.attn.c_attn.weight": (4, 12),
        "h.0.attention.query_key_value.weight": (12, 4),
        "h.0.self_attention.query_key_value.weight": (12, 4),
        "layers.0.self_attn.qkv_proj.weight": (12, 4),
        "layers.0.mlp.gate_up_proj.weight": (8, 4),
        "layers.0.mlp.experts.gate_up_proj": (2, 4, 8),
        "layers.0.mlp.experts.down_proj": (2, 4, 4),
        "layers.0.ffn.experts.mlp.w1": (8, 4),
        "layers.0.q_proj.weight": (4, 4),
        "layers.0.q_proj.weight_scale": (4, 1),
        "conv.weight": (4, 2, 1, 3),
    }
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    tensors["layers.0.k_proj.weight"] = torch.zeros(4, 4, dtype=torch.float8_e4m3fn)
    tensors["layers.0.k_proj.weight_scale_inv"] = torch.ones(1, 1)
    tensors["layers.0.v_proj.qweight"] = torch.zeros(8, 8, dtype=torch.int32)
    tensors["layers.0.v_proj.qzeros"] = torch.zeros(1, 1, dtype=torch.int32)
    tensors["layers.0.v_proj.scales"] = torch.zeros(1, 8, dtype=torch.float16)
    tensors["layers.0.o_proj.weight_packed"] = torch.zeros(8, 1, dtype=torch.int32)
    tensors["layers.0.o_proj.weight_shape"] = torch.tensor([8, 8])
    return write_model(tmp_path_factory.mktemp("fused"), tensors)


@pytest.mark.parametrize("key", KEYS)
def test_odd_values_in_a_config(fused: Path, key: str) -> None:
    tensors = 18
    for family in FAMILIES if key not in {"model_type", "text_config"} else ["llama"]:
        for value in ODD:
            config = {"model_type": family, "num_attention_heads": 2, "hidden_size": 4, key: value}
            (fused / "config.json").write_text(json.dumps(config))
            text = "."
            try:
                found = spectra.ls(fused)
                listed = len(found.rows) + len(found.skipped)
            except SpectraError as error:
                text, listed = str(error), 1
            assert text.isprintable(), config
            assert text.endswith("."), config
            assert 0 < listed <= 3 * tensors, config


class TestPlaces:
    @pytest.mark.parametrize("name", [FIRST, INDEX, "config.json"])
    def test_links_in_a_circle(self, tmp_path: Path, name: str) -> None:
        folder = write_shards(tmp_path)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("other")
        (folder / "other").symlink_to(name)
        if name == "config.json":  # leads nowhere, so there is none
            assert opened(folder).config == {}
        else:
            assert refusal(folder)

    @pytest.mark.parametrize("name", [FIRST, INDEX, "config.json", "model.safetensors"])
    @pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
    def test_what_is_no_file(self, tmp_path: Path, name: str, kind: str) -> None:
        folder = write_shards(tmp_path)
        (folder / name).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "folder":
            (folder / name).mkdir()
        else:
            os.mknod(folder / name, 0o140600)
        if kind == "folder" and name == "model.safetensors":  # the shards are still there
            assert sorted(opened(folder).entries) == ["a", "b"]
        elif kind == "folder" and name == INDEX:
            assert "holds 2 of 2 parts of a model and no index" in refusal(folder)
        else:
            assert f"{name} is no regular file" in refusal(folder)

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
    def test_devices(self, tmp_path: Path, device: str) -> None:
        (tmp_path / "model.safetensors").symlink_to(device)
        assert "model.safetensors" in refusal(tmp_path)

    def test_a_file_swapped_after_opening_is_read_as_it_is_now_or_refused(
        self, tmp_path: Path
    ) -> None:
        model = opened(write_model(tmp_path, {"a": A, "b": B}))
        write_model(tmp_path, {"a": torch.ones(1)})
        with pytest.raises(CheckpointError, match=r"ended inside tensor '[ab]'"):
            [model.read(entry) for entry in model.entries.values()]

    def test_a_file_swapped_for_a_pipe_or_a_folder_after_opening(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, {"a": A}) / "model.safetensors"
        model = opened(path)
        path.unlink()
        path.mkdir()
        with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
            model.read(model.entries["a"])

    def test_a_file_that_grows_while_it_is_opened(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, {"a": A}) / "model.safetensors"
        model = opened(path)
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(CheckpointError, match="was written again after it was opened"):
            model.read(model.entries["a"])
        assert "4 bytes after the last tensor" in refusal(path)
