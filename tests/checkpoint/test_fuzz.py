"""Valid files with random damage: each opens, or is refused in one plain line.

A short run by default; `SPECTRA_FUZZ_EXAMPLES=20000` for a long one.
"""

import copy
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spectra
from examples import write_model
from shards import INDEX, write_shards
from spectra.checkpoint import Checkpoint, open_spec
from spectra.errors import SpectraError
from spectra.matrices import Selection
from spectra.work import plan_pair

EXAMPLES = int(os.environ.get("SPECTRA_FUZZ_EXAMPLES", "200"))
fuzz = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Change = tuple[str, int, bytes]
changes = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "cut", "repeat", "flip"]),
        st.integers(0, 1 << 20),
        st.binary(min_size=1, max_size=9)
        | st.sampled_from([b"\x00" * 8, b"\xff" * 8, b'"', b"[", b"{", b",", b"..", b"-1", b"1e9"]),
    ),
    min_size=1,
    max_size=4,
)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2, 1 << 31, 1 << 63, 1 << 64, -(1 << 70), 0.5, 1e308),
        *("", ".", "..", "../x.safetensors", "/etc/passwd", "a/b", "F32", "\x1b[2J", "\x00", "x"),
        *([], [0], [0, 0], [-1], [[]], {}, {"a": {}}, ["x"], "(", ".*", "[", "x" * 5000),
    ]
).map(copy.deepcopy)


def damaged(content: bytes, made: list[Change]) -> bytes:
    """Return the bytes with every change applied at its place, modulo their length."""
    found = bytearray(content)
    for kind, place, extra in made:
        at = place % (len(found) + 1)
        if kind == "replace":
            found[at : at + len(extra)] = extra
        elif kind == "insert":
            found[at:at] = extra
        elif kind == "cut":
            del found[at : at + len(extra)]
        elif kind == "repeat":
            found[at:at] = found[at : at + 40]
        elif found:
            found[at % len(found)] ^= 1 << (extra[0] % 8)
    return bytes(found)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """Return the path of every value in a JSON tree."""
    if not isinstance(tree, dict | list):
        return [path]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, tree: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON tree with a few values replaced, left out, renamed or doubled."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(tree)))
        if not path:
            continue
        holder = tree
        for key in path[:-1]:
            holder = holder[key]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename", "add"]))
        if kind == "replace":
            holder[path[-1]] = draw(ODD)
        elif kind == "drop":
            del holder[path[-1]]
        elif isinstance(holder, dict):
            name = draw(st.sampled_from(["", "__metadata__", "\x1b", "use_x", *map(str, holder)]))
            holder[name] = holder.pop(path[-1]) if kind == "rename" else draw(ODD)
        else:
            holder.insert(0, draw(ODD))
    return tree


def survived(call: Callable[[], object]) -> bool:
    """Say whether the call went well; its refusal must be one plain line."""
    text = ""
    try:
        call()
    except SpectraError as error:
        text = str(error)
        plain = text.isprintable() and text.endswith(".") and len(text) < 2000
        if not plain:
            raise
    return not text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read_all(path: Path, *, allow_pickle: bool = False) -> None:
    """Open, list and read everything."""
    model = spectra.open(path, allow_pickle=allow_pickle)
    assert isinstance(model, Checkpoint)
    survived(lambda: spectra.ls(model))
    for entry in model.entries.values():
        model.read(entry)


TENSORS = {
    "model.layers.0.self_attn.q_proj.weight": torch.arange(12.0).reshape(3, 4),
    "model.layers.0.mlp.experts.gate_up_proj": torch.ones(2, 3, 4, dtype=torch.bfloat16),
    "model.norm.weight": torch.ones(4, dtype=torch.float16),
    "model.ids": torch.arange(3),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model, of which nothing but its config is ever written again."""
    return write_model(tmp_path_factory.mktemp("written"), TENSORS)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def index(shards: Path) -> str:
    return (shards / INDEX).read_text()


@pytest.fixture(scope="module")
def base(minilm: Path) -> Checkpoint:
    found = open_spec(minilm)
    assert isinstance(found, Checkpoint)
    return found


@fuzz
@given(made=changes)
def test_bytes_of_a_safetensors_file(folder: Path, written: Path, made: list[Change]) -> None:
    good = folder / "bytes.safetensors"
    content = (written / "model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    good.write_bytes(damaged(content[:header], made) + content[header:])
    survived(lambda: read_all(good))


@fuzz
@given(data=st.data())
def test_structure_of_a_safetensors_header(
    folder: Path, written: Path, data: st.DataObject
) -> None:
    good = folder / "structure.safetensors"
    content = (written / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    tree = data.draw(changed(json.loads(content[8 : 8 + length])))
    header = json.dumps(tree).encode()
    good.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    survived(lambda: read_all(good))


@fuzz
@given(data=st.data())
def test_an_index(shards: Path, index: str, data: st.DataObject) -> None:
    tree = data.draw(changed(json.loads(index)))
    content = json.dumps(tree).encode()
    made = data.draw(changes | st.just([]))
    (shards / INDEX).write_bytes(damaged(content, made))
    survived(lambda: read_all(shards))


CONFIG = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "hidden_size": 4,
    "head_dim": 2,
    "text_config": {"model_type": "phi3", "num_attention_heads": 2},
    "quantization_config": {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "bits": 4,
        "group_size": 32,
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
    },
}


@fuzz
@given(data=st.data())
def test_a_config(written: Path, data: st.DataObject) -> None:
    tree = data.draw(changed(CONFIG))
    made = data.draw(changes | st.just([]))
    (written / "config.json").write_bytes(damaged(json.dumps(tree).encode(), made))
    survived(lambda: read_all(written))


@fuzz
@given(data=st.data())
def test_an_adapters_config(
    folder: Path, data: st.DataObject, minilm_lora: Path, base: Checkpoint
) -> None:
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    if not (adapter / "adapter_model.safetensors").exists():
        shutil.copy(minilm_lora / "adapter_model.safetensors", adapter)
    tree = data.draw(changed(json.loads((minilm_lora / "adapter_config.json").read_text())))
    made = data.draw(st.just([]) | changes)
    (adapter / "adapter_config.json").write_bytes(damaged(json.dumps(tree).encode(), made))
    if survived(lambda: spectra.ls(adapter)):
        survived(lambda: plan_pair(base, open_spec(adapter), Selection()))


@fuzz
@given(made=changes)
def test_bytes_of_a_pickle_file(folder: Path, made: list[Change]) -> None:
    path = folder / "x.bin"
    torch.save(TENSORS, path)
    path.write_bytes(damaged(path.read_bytes(), made))
    survived(lambda: read_all(path, allow_pickle=True))


@fuzz
@given(made=changes)
def test_what_is_read_of_a_damaged_pickle_is_what_weights_only_reads(
    folder: Path, made: list[Change]
) -> None:
    path = folder / "program.bin"
    torch.save(TENSORS, path)
    with zipfile.ZipFile(path) as good:
        records = {name: good.read(name) for name in good.namelist()}
    records["program/data.pkl"] = damaged(records["program/data.pkl"], made)
    with zipfile.ZipFile(path, "w") as bad:
        for name, content in records.items():
            bad.writestr(name, content)
    if survived(lambda: read_all(path, allow_pickle=True)):
        model = open_spec(path, allow_pickle=True)
        assert isinstance(model, Checkpoint)
        try:  # an UnpicklingError, of what is not allowed there, is a failure
            twin = torch.load(path, weights_only=True, map_location="cpu")
        except (RuntimeError, TypeError):  # flags that contradict each other, which are not read
            return
        for name, entry in model.entries.items():
            assert torch.equal(model.read(entry), twin[name]), name
