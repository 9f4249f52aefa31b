"""The own header parser against the library's: both accept, or both refuse.

Two differences are meant. Duplicate keys are refused here, while the library lets the last
of two tensors of one name win. And numbers in unread fields that round to the largest float64
(1.797e308) are out of range there and in range here; the strategies leave these out.
"""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from checkpoint.codecs.memory import MemoryFile
from spectra.checkpoint.entry import BITS
from spectra.checkpoint.header import Header, read_header
from spectra.errors import HeaderError

NO_TORCH = ("F4", "F6_E2M3", "F6_E3M2")  # torch has no such element, so no bytes to compare

Pairs = list[tuple[str, Any]]  # an object that may hold a key twice


class Raw(str):
    """JSON text to write as it stands, well formed or not."""

    __slots__ = ()


ODD = [
    *("-0", "-0.0", "-1", "1.0", "1e0", "0e99999999999", "1E400", "1e-400", "01", "+1", "1.", ".5"),
    *(
        "-",
        "1e",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "nul",
        "[]",
        "{}",
        "",
        "'a'",
    ),
    *("9223372036854775808", "-9223372036854775809", "18446744073709551615"),
    *("18446744073709551616", "1" * 309, "1" * 310, "-" + "1" * 400, "1" * 400 + "e-300"),
    *('"F32"', '"f32"', '"F32 "', '"BF16"', '""', '"4"', '"\\u0046\\u0033\\u0032"', '{"F32":null}'),
    *('{"F32":{}}', '{"F32":[]}', '{"F32":0}', '["F32"]', '{"F32":null,"F16":null}', '{"x":null}'),
    *(
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\ude00\\ud83d"',
        '"\\u0000"',
        '"\\u12"',
        '"\\x41"',
        '"\\/"',
    ),
    *(
        '"\x01"',
        '"\x7f"',
        '"\t"',
        '"\\t"',
        '["\\udfff"]',
        '{"\\ud800":1}',
        "[1,]",
        "[,]",
        '{"a":1,}',
    ),
    *(
        '{"a" 1}',
        "{1:2}",
        "[1 2]",
        "[[1]]",
        "[0,0]",
        "[0,4]",
        "[0,4,8]",
        "[0]",
        '{"a":[{"b":NaN}]}',
    ),
    *('{"$serde_json::private::Number":"1"}', "[0.0,4]", "[-0,4]", '["0",4]', "/**/1", "\ufeff1"),
]
DEEP = [Raw("[" * n + "1" * leaf + "]" * n) for n in (1, 124, 125, 126, 127) for leaf in (0, 1)]
DEEP += [Raw('{"a":' * n + "1" + "}" * n) for n in (124, 125, 126, 127)]
EXTENTS = st.integers(0, 5) | st.sampled_from([1 << 31, 1 << 58, 1 << 61, 1 << 62, (1 << 64) - 1])
SPACES = st.sampled_from(["", "", " ", "\n", "\t\r ", "\x0b", "\x00", "\u00a0", "\ufeff"])
CHANGES = ["value", "inner", "shift", "extent", "drop", "extra", "twice", "list", "order"]
odd = st.sampled_from([Raw(text) for text in ODD]) | st.sampled_from(DEEP) | EXTENTS
names = st.text(max_size=6) | st.sampled_from(["__metadata__", "a", "dtype", "\x1b[2J", "\x00"])


def write(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write JSON, objects from pairs and Raw text as it stands."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return "{" + ",".join(f"{json.dumps(key)}:{write(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


@st.composite
def valid(draw: st.DrawFn) -> tuple[Pairs, int]:
    """Return a header's pairs and the bytes of data it needs."""
    table: Pairs = []
    position = 0
    for name in draw(
        st.lists(names.filter(lambda n: n != "__metadata__"), max_size=3, unique=True)
    ):
        dtype = draw(st.sampled_from(list(BITS)))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        if BITS[dtype] < 8:
            shape.append(4)
        stop = position + int(torch.Size(shape).numel()) * BITS[dtype] // 8
        table.append(
            (name, [("dtype", dtype), ("shape", shape), ("data_offsets", [position, stop])])
        )
        position = stop
    return draw(st.permutations(table)), position


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a file: a valid one, with none to three things changed."""
    table, size = draw(valid())
    for _ in range(draw(st.integers(0, 3))):
        size = mutate(draw, table, size)
    text = draw(SPACES) + (write(table) if table else "{}") + draw(SPACES)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    data = draw(st.binary(min_size=min(size, 4096), max_size=min(size, 4096)))
    length = len(raw)
    match draw(st.sampled_from(["whole"] * 6 + ["flip", "cut", "length"])):
        case "flip":
            for _ in range(draw(st.integers(1, 3))):
                raw[draw(st.integers(0, length - 1))] = draw(st.integers(0, 255))
        case "cut":
            whole = struct.pack("<Q", length) + raw + data
            return whole[: draw(st.integers(0, len(whole)))]
        case "length":
            length = max(0, length + draw(st.integers(-3, 3)))
    return struct.pack("<Q", length) + raw + data


def mutate(draw: st.DrawFn, table: Pairs, size: int) -> int:  # noqa: C901, PLR0912
    """Change one thing in place; return the size of the data to write."""
    kind = draw(st.sampled_from(["size", "metadata", "tensor", *["info"] * 6]))
    if kind == "size":
        return max(0, size + draw(st.integers(-2, 2)))
    if kind == "metadata":
        found: Any = draw(
            st.lists(st.tuples(names, st.text(max_size=3) | odd), min_size=1, max_size=2) | odd
        )
        table.insert(draw(st.integers(0, len(table))), ("__metadata__", found))
        return size
    if kind == "tensor" or not table:
        table.append((draw(names), draw(odd)))
        return size
    at = draw(st.integers(0, len(table) - 1))
    name, info = table[at]
    if not isinstance(info, list) or not info or not isinstance(info[0], tuple):
        return size
    pairs = list(info)
    spot = draw(st.integers(0, len(pairs) - 1))
    key, value = pairs[spot]
    match draw(st.sampled_from(CHANGES)):
        case "value":
            pairs[spot] = (key, draw(odd))
        case "inner" if isinstance(value, list) and value:
            pairs[spot] = (key, [draw(odd), *value[1:]])
        case "shift" if key == "data_offsets" and isinstance(value, list):
            change = st.integers(-4, 4)
            pairs[spot] = (key, [v + draw(change) if isinstance(v, int) else v for v in value])
        case "extent" if isinstance(value, list):
            pairs[spot] = (key, [*value, draw(EXTENTS)] if draw(st.booleans()) else value[:-1])
        case "drop":
            del pairs[spot]
        case "extra":
            pairs.append((draw(names), draw(odd)))
        case "twice":
            pairs.append((key, value))
        case "list":
            table[at] = (name, [inner for _, inner in pairs])
            return size
        case _:
            pairs = draw(st.permutations(pairs))
    table[at] = (name, pairs)
    return size


def ours(content: bytes) -> Header | HeaderError:
    """Read with the own parser."""
    try:
        return read_header(MemoryFile("it", content), "it")
    except HeaderError as error:
        return error


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twin") / "model.safetensors"


def compare(content: bytes, path: Path) -> bool:
    """Check that both agree on one file; say whether they took it."""
    own = ours(content)
    path.write_bytes(content)
    try:
        opened = safe_open(path, framework="pt", backend="pread")
    except (SafetensorError, OSError):
        assert isinstance(own, HeaderError), "the library refuses this file"
        return False
    with opened as twin:
        if isinstance(own, HeaderError):
            assert "twice" in str(own), f"the library takes this file: {own}"
            return False
        assert own.metadata == (twin.metadata() or {})
        assert sorted(entry.name for entry in own.entries) == sorted(twin.keys())
        for entry in own.entries:
            view = twin.get_slice(entry.name)
            assert entry.dtype == view.get_dtype()
            assert list(entry.shape) == view.get_shape()
            if entry.dtype not in NO_TORCH and max(entry.shape, default=0) < 1 << 31:
                values = twin.get_tensor(entry.name).reshape(-1).view(torch.uint8)
                assert bytes(values.numpy()) == content[entry.start : entry.stop]
    return True


@settings(max_examples=300)
@example(content=b"")
@example(content=b"\x00" * 8)
@given(content=mutated())
def test_both_accept_or_both_refuse(content: bytes, path: Path) -> None:
    compare(content, path)


@settings(max_examples=75)
@given(made=valid(), data=st.data())
def test_valid_files_are_read_alike(
    made: tuple[Pairs, int], data: st.DataObject, path: Path
) -> None:
    table, size = made
    raw = (write(table) if table else "{}").encode()
    content = struct.pack("<Q", len(raw)) + raw + data.draw(st.binary(min_size=size, max_size=size))
    assert compare(content, path)


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets", "extra"])
def test_one_odd_field(key: str, text: str, path: Path) -> None:
    info = {
        "dtype": Raw('"F32"'),
        "shape": Raw("[1]"),
        "data_offsets": Raw("[0,4]"),
        key: Raw(text),
    }
    raw = write([("a", list(info.items()))]).encode("utf-8", "surrogatepass")
    compare(struct.pack("<Q", len(raw)) + raw + b"abcd", path)
