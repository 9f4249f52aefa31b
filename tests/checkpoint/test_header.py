"""Every malformed file by name, the error it gives, and the words a user needs in it."""

import struct
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from checkpoint.codecs.memory import MemoryFile
from spectra.checkpoint import TensorEntry
from spectra.checkpoint.entry import BITS
from spectra.checkpoint.header import MAX_HEADER, Header, read_header
from spectra.errors import HeaderError

GOOD = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
FLOATS = '"dtype":"F32","shape":[2],'


def file(header: str | bytes, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(facts: str, size: int = 4, name: str = "a") -> bytes:
    return file(f'{{"{name}":{{{facts}}}}}', bytes(size))


def read(content: bytes) -> Header:
    return read_header(MemoryFile("F", content), "shard")


MALFORMED = {
    # The file itself.
    "empty": (b"", "F has 0 bytes", "at least 8", "cut", "again"),
    "short": (b"\x02\x00\x00", "F has 3 bytes", "at least 8", "cut"),
    "length-0": (bytes(8), "header of 0 bytes", "expected 2 to 100,000,000"),
    "length-1": (file("{"), "header of 1 bytes", "expected 2 to 100,000,000"),
    "length-oversize": (
        struct.pack("<Q", MAX_HEADER + 1) + b"{}",
        "not a safetensors file",
        "header of 100,000,001 bytes",
    ),
    "length-past-u63": (b"\xff" * 8 + b"{}", "not a safetensors file", "expected 2 to"),
    "length-past-the-end": (struct.pack("<Q", 99) + b"{}", "ends at byte 10", "99 bytes", "cut"),
    "truncated": (tensor(GOOD, 3), "ends at byte 65", "needs 66", "cut", "again"),
    "truncated-in-header": (tensor(GOOD)[:20], "ends at byte 20 inside its own header", "cut"),
    "trailing-bytes": (tensor(GOOD, 7), "3 bytes after the last tensor", "joined", "again"),
    "trailing-bytes-no-tensor": (file("{}", b"x"), "1 bytes after the last tensor"),
    "git-lfs-pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "F is a git-LFS pointer",
        "`git lfs pull`",
    ),
    "html-page": (b"\n<!DOCTYPE html>\n<html><body>404", "F is an HTML page", "'resolve' link"),
    "html-page-without-doctype": (b"<HTML lang=en>", "F is an HTML page", "fetch the file itself"),
    # The JSON text.
    "not-utf-8": (file(b'{"\xff":1}'), "not UTF-8", "not a safetensors file"),
    "utf-8-surrogate": (file(b'{"\xed\xa0\x80":1}'), "not UTF-8"),
    "byte-order-mark": (file("\ufeff{}"), "not JSON: line 1 is wrong at column 1"),
    "not-json": (file("hello"), "not JSON: line 1 is wrong at column 1. Fetch"),
    "json-cut": (file('{"a":'), "not JSON: it ends in the middle, after 5 characters: it was cut"),
    "json-single-quotes": (file("{'a':1}"), "not JSON"),
    "json-trailing-comma": (file("{},"), "not JSON: line 1 is wrong at column 3"),
    "json-control-character": (file('{"\x01":1}'), "not JSON: line 1 is wrong at column 3"),
    "list": (file("[]"), "is a JSON list, expected an object"),
    "null": (file("null"), "is a JSON null, expected an object"),
    "number": (file("12"), "is a JSON number, expected an object"),
    "string": (file('"x"'), "is a JSON string, expected an object"),
    "boolean": (file("true"), "is a JSON boolean, expected an object"),
    "deep-nesting": (file("[" * 100_000), "nests deeper than 127 levels"),
    "deep-nesting-in-extra": (
        tensor(f'{GOOD},"x":{"[" * 126}{"]" * 126}'),
        "tensor 'a' nests deeper than 127 levels",
    ),
    "duplicate-tensor": (file(f'{{"a":{{{GOOD}}},"a":{{{GOOD}}}}}', bytes(4)), "key 'a' twice"),
    "duplicate-field": (tensor(f'{GOOD},"dtype":"F32"'), "key 'dtype' twice"),
    "duplicate-metadata": (file('{"__metadata__":{"k":"1","k":"2"}}'), "key 'k' twice"),
    "lone-surrogate-name": (tensor(GOOD, name=r"\ud800"), r"'\ud800', which is not Unicode"),
    "lone-surrogate-extra": (tensor(GOOD + r',"x":["\ud800"]'), "tensor 'a' holds", "Unicode"),
    "nan": (tensor(GOOD + ',"x":NaN'), "number NaN, which is out of range"),
    "infinity": (tensor(GOOD + ',"x":-Infinity'), "number -Infinity, which is out of range"),
    "float-overflow": (tensor(GOOD + ',"x":1e400'), "number 1e400, which is out of range"),
    "integer-overflow": (
        tensor(GOOD + f',"x":{"1" * 400}'),
        "number of 400 digits",
        "out of range",
    ),
    # __metadata__.
    "metadata-list": (file('{"__metadata__":[]}'), "__metadata__ does not map text to text"),
    "metadata-number": (file('{"__metadata__":{"a":1}}'), "__metadata__ does not map text"),
    "metadata-null-value": (file('{"__metadata__":{"a":null}}'), "__metadata__ does not map text"),
    # One tensor.
    "tensor-null": (file('{"a":null}'), "tensor 'a' is a JSON null, expected an object"),
    "tensor-list-of-four": (file('{"a":["F32",[1],[0,4],0]}', bytes(4)), "is a JSON list"),
    "no-dtype": (tensor('"shape":[1],"data_offsets":[0,4]'), "tensor 'a' has no dtype"),
    "no-fields": (tensor("", 0), "has no dtype and no shape and no data_offsets"),
    "unknown-dtype": (tensor(GOOD.replace("F32", "F128")), "dtype 'F128', expected one of BOOL"),
    "lower-case-dtype": (tensor(GOOD.replace("F32", "f32")), "dtype 'f32', expected one of"),
    "dtype-number": (tensor(GOOD.replace('"F32"', "17")), "dtype 17, expected one of BOOL"),
    "dtype-object": (tensor(GOOD.replace('"F32"', '{"F32":{}}')), "dtype {'F32': {}}, expected"),
    "shape-null": (tensor(GOOD.replace("[1]", "null")), "shape None, expected a list of counts"),
    "shape-negative": (tensor(GOOD.replace("[1]", "[-1]")), "shape [-1], expected a list"),
    "shape-float": (tensor(GOOD.replace("[1]", "[1.0]")), "shape [1.0], expected a list"),
    "shape-true": (tensor(GOOD.replace("[1]", "[true]")), "shape [True], expected a list"),
    "shape-nested": (tensor(GOOD.replace("[1]", "[[1]]")), "shape [[1]], expected a list"),
    "shape-mismatch": (tensor(GOOD.replace("[1]", "[3]")), "F32 [3], 12 bytes", "offsets hold 4"),
    "shape-overflow": (
        tensor(GOOD.replace("[1]", "[4294967296,4294967296]")),
        "shape [4294967296, 4294967296]: its size overflows 64 bits",
    ),
    "shape-overflow-before-zero": (
        tensor('"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]', 0),
        "its size overflows 64 bits",
    ),
    "size-overflow-in-bits": (
        tensor(GOOD.replace("[1]", "[1152921504606846976]")),
        "its size overflows 64 bits",
    ),
    "extent-past-u64": (tensor(GOOD.replace("[1]", "[18446744073709551616]")), "expected a list"),
    "half-a-byte": (
        tensor('"dtype":"F4","shape":[3],"data_offsets":[0,1]', 1),
        "F4 [3]: 12 bits are no whole bytes",
    ),
    "offsets-negative": (tensor(FLOATS + '"data_offsets":[-4,4]'), "data_offsets [-4, 4]"),
    "offsets-minus-zero": (tensor(GOOD.replace("[0,4]", "[-0,4]")), "data_offsets [-0.0, 4]"),
    "offsets-float": (tensor(GOOD.replace("[0,4]", "[0,4.0]")), "[0, 4.0], expected [begin, end]"),
    "offsets-three": (tensor(GOOD.replace("[0,4]", "[0,4,8]")), "expected [begin, end]"),
    "offsets-one": (tensor(GOOD.replace("[0,4]", "[4]")), "[4], expected [begin, end]"),
    "offsets-object": (tensor(GOOD.replace("[0,4]", '{"0":0}')), "expected [begin, end]"),
    "end-before-begin": (tensor(GOOD.replace("[0,4]", "[4,0]")), "at byte 0 before it begins at 4"),
    # Tensors against each other.
    "hole-at-start": (tensor(FLOATS + '"data_offsets":[4,12]', 12), "leaves a hole", "byte 4"),
    "hole": (
        file(f'{{"a":{{{GOOD}}},"b":{{{FLOATS}"data_offsets":[6,14]}}}}', bytes(14)),
        "tensor 'b' leaves a hole: it starts at byte 6 of the data, expected 4",
    ),
    "overlap": (
        file(f'{{"a":{{{GOOD}}},"b":{{{FLOATS}"data_offsets":[2,10]}}}}', bytes(10)),
        "tensor 'b' overlaps the tensor before it: it starts at byte 2",
        "expected 4",
    ),
    "same-bytes-twice": (
        file(f'{{"a":{{{GOOD}}},"b":{{{GOOD}}}}}', bytes(4)),
        "tensor 'b' overlaps the tensor before it: it starts at byte 0",
    ),
}


@pytest.mark.parametrize(
    ("content", "words"), [(c, w) for c, *w in MALFORMED.values()], ids=MALFORMED
)
def test_malformed_files_are_refused_by_name(content: bytes, words: list[str]) -> None:
    with pytest.raises(HeaderError) as caught:
        read(content)
    message = str(caught.value)
    assert message.startswith("F")
    for word in words:
        assert word in message
    assert message.isprintable(), "one line, nothing that moves the cursor"
    assert message.endswith(("again.", "`git lfs pull`.")), "says what to do next"


@pytest.mark.parametrize("content", [c for c, *_ in MALFORMED.values()], ids=MALFORMED)
def test_the_library_refuses_the_same_files(
    content: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    case = request.node.callspec.id
    if case in {"duplicate-tensor", "duplicate-metadata"}:  # the last of the two wins there
        with safe_open(path, framework="pt", backend="pread"):
            return
    with pytest.raises(SafetensorError):
        safe_open(path, framework="pt", backend="pread")


@pytest.mark.parametrize("name", ["\x1b[2J", "\x00", "a\nb", "\u202e", "\x9b31m", "n" * 100_000])
@pytest.mark.parametrize(
    "fault", ["null", '{"dtype":"\\u001b[1m","shape":[1],"data_offsets":[0,4]}', f"{{{GOOD}}}"]
)
def test_names_are_escaped_and_cut_short_in_messages(name: str, fault: str) -> None:
    written = "".join(f"\\u{ord(mark):04x}" for mark in name)
    with pytest.raises(HeaderError) as caught:
        read(file(f'{{"{written}":{fault}}}', bytes(1)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_long_wrong_values_are_cut_short() -> None:
    shape = ",".join(["-1"] * 100_000)
    with pytest.raises(HeaderError, match=r"shape \[-1, -1, .*\.\.\.\], expected") as caught:
        read(tensor(f'"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]'))
    assert len(str(caught.value)) < 200


ACCEPTED = {
    "no-tensor": (file("{}"), []),
    "plain": (tensor(GOOD), [("a", "F32", (1,))]),
    "scalar": (tensor('"dtype":"BF16","shape":[],"data_offsets":[0,2]', 2), [("a", "BF16", ())]),
    "no-element": (
        tensor('"dtype":"F64","shape":[3,0],"data_offsets":[0,0]', 0),
        [("a", "F64", (3, 0))],
    ),
    "no-element-wide": (
        tensor('"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]', 0),
        [("a", "F32", (1 << 62, 0))],
    ),
    "four-bit": (tensor('"dtype":"F4","shape":[4],"data_offsets":[0,2]', 2), [("a", "F4", (4,))]),
    "padded": (file(f'  {{"a":{{{GOOD}}}}}\n\t ', bytes(4)), [("a", "F32", (1,))]),
    "extra-field": (tensor(GOOD + ',"x":[1e-400,{"y":null}]'), [("a", "F32", (1,))]),
    "deep-but-not-too-deep": (
        tensor(f'{GOOD},"x":{"[" * 125}1{"]" * 125}'),
        [("a", "F32", (1,))],
    ),
    "tensor-as-list": (file('{"a":["F32",[1],[0,4]]}', bytes(4)), [("a", "F32", (1,))]),
    "dtype-as-object": (tensor(GOOD.replace('"F32"', '{"F32":null}')), [("a", "F32", (1,))]),
    "metadata-null": (
        file(f'{{"__metadata__":null,"a":{{{GOOD}}}}}', bytes(4)),
        [("a", "F32", (1,))],
    ),
    "control-characters": (tensor(GOOD, name=r"\u001b\u0000"), [("\x1b\x00", "F32", (1,))]),
    "out-of-order": (
        file(f'{{"b":{{{FLOATS}"data_offsets":[4,12]}},"a":{{{GOOD}}}}}', bytes(12)),
        [("a", "F32", (1,)), ("b", "F32", (2,))],
    ),
}


@pytest.mark.parametrize(("content", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_unusual_but_valid_files_are_read(
    content: bytes, expected: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    entries = read(content).entries
    assert [(entry.name, entry.dtype, entry.shape) for entry in entries] == expected


def test_offsets_count_from_the_start_of_the_file() -> None:
    content = tensor(GOOD)
    origin = len(content) - 4
    assert read(content).entries == (TensorEntry("a", "F32", (1,), "shard", origin, origin + 4),)


def test_metadata_is_returned() -> None:
    assert read(file('{"__metadata__":{"format":"pt"}}')).metadata == {"format": "pt"}


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_is_known(dtype: str) -> None:
    size = BITS[dtype]  # eight elements
    header = read(tensor(f'"dtype":"{dtype}","shape":[8],"data_offsets":[0,{size}]', size))
    assert header.entries[0].nbytes == size
    assert header.entries[0].numel == 8
