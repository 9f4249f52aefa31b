"""Pickle files that want to run something, claim too much or are something else: all refused."""

import builtins
import collections
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spectra.checkpoint import Checkpoint, open_spec
from spectra.checkpoint.pickled.names import ARRAYS, DEFAULTING, FACTORIES, INERT, KNOWN
from spectra.errors import CheckpointError

GOOD = {"a": torch.arange(6.0).reshape(2, 3)}
PROTO, STOP = b"\x80\x02", b"."
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
)


def refusal(spec: Path) -> str:
    """Return the error's text, after checking that it is one plain line."""
    with pytest.raises(CheckpointError) as caught:
        open_spec(spec, allow_pickle=True)
    text = str(caught.value)
    assert text.isprintable()
    assert text.endswith((".", ")."))
    assert len(text) < 800
    return text


def archive(
    path: Path, program: bytes, change: Callable[[zipfile.ZipFile], None] | None = None
) -> Path:
    """Write an archive as torch does, but with this pickle; the storage "0" holds six floats."""
    torch.save(GOOD, path)
    with zipfile.ZipFile(path) as good:
        records = {name: good.read(name) for name in good.namelist()}
    root = next(iter(records)).split("/")[0]
    records[f"{root}/data.pkl"] = program
    with zipfile.ZipFile(path, "w") as bad:
        for name, content in records.items():
            bad.writestr(name, content)
        if change:
            change(bad)
    return path


def tensor(
    *, offset: bytes = b"K\x00", shape: bytes = b"K\x02K\x03\x86", stride: bytes = b"K\x03K\x01\x86"
) -> bytes:
    """Return a state dict of one tensor `a`, written by hand."""
    return (
        PROTO + b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + STORAGE
        + offset + shape + stride + b"\x89ccollections\nOrderedDict\n)RtRs" + STOP
    )  # fmt: skip


def test_what_is_written_by_hand_here_is_read(tmp_path: Path) -> None:
    model = open_spec(archive(tmp_path / "x.bin", tensor()), allow_pickle=True)
    assert isinstance(model, Checkpoint)
    assert model.read(model.entries["a"]).equal(GOOD["a"])
    assert torch.load(tmp_path / "x.bin", weights_only=True)["a"].equal(GOOD["a"])


class Calls:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


class Sets:
    """Runs what it is given when its state is set."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: dict[str, str]) -> None:
        exec(state["code"], {})  # noqa: S102 - the payload that must not run


Sets.__module__, Sets.__qualname__ = "test_pickled_refused", "Sets"


def payloads(canary: Path) -> dict[str, object]:
    """Return objects that, once unpickled, leave a file behind."""
    shell = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, shell),
        "builtins.exec": Calls(builtins.exec, code),
        "builtins.eval": Calls(eval, f"open({str(canary)!r}, 'w')"),  # noqa: S307 - not called
        "builtins.open": Calls(builtins.open, str(canary), "w"),
        "subprocess": Calls(subprocess.check_output, ["touch", str(canary)]),
        "builtins.getattr": Calls(getattr, Path, "touch"),
        "pathlib": Calls(Path.touch, canary),
        "numpy": np.array([Calls(os.system, shell)], dtype=object),
        "module": nn.Linear(2, 2),
        "torch.load": Calls(torch.load, str(canary)),
        "torch.hub": Calls(torch.hub.download_url_to_file, "http://localhost:9/x", str(canary)),
        "codecs": Calls(__import__("codecs").open, str(canary), "w"),
        "counter-of": collections.Counter(a=Calls(os.system, shell)),  # type: ignore[call-overload]
    }


@pytest.mark.parametrize("place", ["alone", "beside", "as-key", "in-attributes", "in-tensor"])
@pytest.mark.parametrize("name", payloads(Path()))
def test_a_payload_does_not_run(tmp_path: Path, name: str, place: str) -> None:
    canary = tmp_path / "canary"
    payload = payloads(canary)[name]
    state = collections.OrderedDict(a=torch.ones(2))
    saved: object = {"a": torch.ones(2), "b": payload}
    if place == "alone":
        saved = payload
    elif place == "as-key":
        saved = [{"a": 1}, (payload, payload), state]
    elif place == "in-attributes":
        state._metadata = payload  # type: ignore[attr-defined]
        saved = state
    elif place == "in-tensor":
        saved = torch.ones(2)
        saved.note = payload  # type: ignore[attr-defined]
    torch.save(saved, tmp_path / "model.bin")
    text = refusal(tmp_path / "model.bin")
    assert "which weights do not need: refused, and nothing in it was run. Load it where" in text
    assert not canary.exists()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "model.bin", weights_only=True)


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "subprocess"])
def test_the_payloads_of_these_tests_do_run_where_they_are_let(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(payloads(canary)[name]))
    assert canary.exists()


def test_the_name_of_what_would_run_is_told(tmp_path: Path) -> None:
    torch.save({"a": Calls(os.system, "true")}, tmp_path / "x.bin")
    assert f"{tmp_path}/x.bin uses '{os.system.__module__}.system', which" in refusal(tmp_path)


def test_a_hostile_set_state(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    sets = Sets(f"open({str(canary)!r}, 'w').close()")
    module = type(sys)("test_pickled_refused")
    module.Sets = Sets  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "test_pickled_refused", module)
        torch.save({"a": sets}, tmp_path / "x.bin")
        assert "uses 'test_pickled_refused.Sets', which weights do not need" in refusal(tmp_path)
        assert not canary.exists()
        pickle.loads(pickle.dumps(sets))
        assert canary.exists(), "it does run where it is let"


def test_a_payload_in_a_shard(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save(GOOD, tmp_path / "m-1.bin")
    torch.save({"b": payloads(canary)["os.system"]}, tmp_path / "m-2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}')
    assert "m-2.bin uses '" in refusal(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (b"cposix\nsystem\nX\x04\x00\x00\x00true\x85RQ", "uses 'posix.system'"),
        (b"(X\x07\x00\x00\x00storagecposix\nsystem\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
         "uses 'posix.system'"),
        (b"(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
         "reference to what is no storage"),
        (b"(X\x07\x00\x00\x00storagectorch\nfloat32\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
         "reference to what is no storage"),
        (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nK\x00X\x03\x00\x00\x00cpuK\x06tQ",
         "reference to what is no storage"),
        (b"K\x05Q", "reference to what is no storage"),
        (b"]Q", "reference to what is no storage"),
    ],
    ids=["call", "function", "module", "dtype", "key", "number", "list"],
)  # fmt: skip
def test_persistent_references(tmp_path: Path, reference: bytes, words: str) -> None:
    assert words in refusal(
        archive(tmp_path / "x.bin", PROTO + b"}X\x01\x00\x00\x00a" + reference + b"s.")
    )


CALLED = " in a way that torch.save does not write"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        # What would be large, were it made.
        (b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.", "no tensors"),
        (b"ctorch.storage\nUntypedStorage\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.", CALLED),
        (b"ctorch\nTensor\nJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86R.", CALLED),
        (b"ctorch\nSize\nK\x05\x85R.", "no tensors"),
        (b"ccollections\nOrderedDict\n]\x85R.", CALLED),
        (b"X\xff\xff\xff\xff.", "damaged pickle"),
        (b"U\xff.", "damaged pickle"),
        (b"\x8a\xff\x01.", "damaged pickle"),
        # Not well formed.
        (b"", "damaged pickle"),
        (b".", "damaged pickle"),
        (b"N.N", "damaged pickle"),
        (b"t.", "damaged pickle"),
        (b"N\x86.", "damaged pickle"),
        (b"h\x05.", "damaged pickle"),
        (b"q\x05.", "damaged pickle"),
        (b"cposix", "damaged pickle"),
        (b"c\xff\n\xff\n.", "damaged pickle"),
        (b"X\x01\x00\x00\x00\xff.", "damaged pickle"),
        (b"(Nu.", "damaged pickle"),
        (b"}(Nu.", "damaged pickle"),
        (b"NNNs.", "damaged pickle"),
        (b"NNa.", "damaged pickle"),
        (b"}(a.", "damaged pickle"),
        # Instructions that a state dict does not use.
        (b"\x80\x04.", "written in pickle protocol 4, expected 2"),
        (b"\x8c\x05posix\x8c\x06system\x93.", "instruction 'SHORT_BINUNICODE'"),
        (b"(iposix\nsystem\n.", "instruction 'INST'"),
        (b"(o.", "instruction 'OBJ'"),
        (b"Px\n.", "instruction 'PERSID'"),
        (b"\x82\x01.", "instruction 'EXT1'"),
        (b"N0.", "instruction 'POP'"),
        (b"\x00", r"instruction b'\x00'"),
        (b"ctorch\nTensor\n)\x81.", "makes an object of 'torch.Tensor'"),
        (b"N)\x81.", "makes an object of 'NoneType'"),
        (b"ctorch\nTensor\n}b.", "sets the attributes of a 'Name'"),
        (b"NNR.", "calls 'NoneType', no function"),
        (b"ctorch\nTensor\nNR.", "calls 'Name', no function"),
        (b"ctorch\nfloat32\n)R.", f"calls 'torch.float32'{CALLED}"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(h\x00NNNtR.", "damaged pickle"),
        (b"c__builtin__\neval\n.", "uses 'builtins.eval'"),
        (b"c\x1b[2J\nx\n.", r"uses '\x1b[2J.x'"),
        (b"cos\n" + b"x" * 5000 + b"\n.", "damaged pickle"),
        # Keys.
        (b"}((NtNtNs.", "whose key is a tuple"),
        (b"}]Ns.", "whose key is a list"),
        (b"}}Ns.", "whose key is a dict"),
        # What is no state dict.
        (b"N.", "holds no tensors, expected a state dict"),
        (b"K\x05.", "holds no tensors"),
        (b"}.", "holds no tensors"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else "",
)  # fmt: skip
def test_programs(tmp_path: Path, program: bytes, words: str) -> None:
    head = b"" if program.startswith(b"\x80") else PROTO
    assert words in refusal(archive(tmp_path / "x.bin", head + program))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"offset": b"K\x01"}, "from element 1 on reaches outside its storage of 6"),
        ({"offset": b"J\xff\xff\xff\xff"}, CALLED),
        ({"offset": b"N"}, CALLED),
        ({"offset": b"\x88"}, CALLED),
        ({"offset": b"\x8a\x09" + bytes(8) + b"\x01"}, CALLED),
        ({"shape": b"K\x03K\x03\x86"}, "'a' of shape [3, 3] with strides [3, 1]"),
        ({"shape": b"J\xff\xff\xff\xffK\x03\x86"}, CALLED),
        ({"shape": b"K\x06\x85"}, CALLED),
        ({"shape": b"]"}, CALLED),
        ({"stride": b"K\x04K\x01\x86"}, "reaches outside its storage"),
        ({"stride": b"\x8a\x08" + b"\xff" * 7 + b"\x7fK\x01\x86"}, "reaches outside its storage"),
        ({"stride": b"J\xfd\xff\xff\xffK\x01\x86"}, CALLED),
        ({"shape": b"(" + b"K\x01" * 65 + b"t", "stride": b"(" + b"K\x01" * 65 + b"t"}, CALLED),
    ],
    ids=repr,
)  # fmt: skip
def test_tensors_that_reach_outside_their_storage(
    tmp_path: Path, wrong: dict[str, bytes], words: str
) -> None:
    assert words in refusal(archive(tmp_path / "x.bin", tensor(**wrong)))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"K\x06tQ", b"K\x07tQ", "'0' has 28 bytes, but it has 24"),
        (b"K\x06tQ", b"K\x05tQ", "'0' has 20 bytes, but it has 24"),
        (b"K\x06tQ", b"J\xff\xff\xff\xfftQ", "reference to what is no storage"),
        (b"\x01\x00\x00\x000X", b"\x01\x00\x00\x001X", "'1' has 24 bytes, but it is not there"),
        (b"\x01\x00\x00\x000X", b"\x0b\x00\x00\x00../data.pklX", "but it is not there"),
        (b"FloatStorage", b"DoubleStorage", "'0' has 48 bytes, but it has 24"),
        (b"ctorch\nFloatStorage", b"ctorch.storage\nUntypedStorage", CALLED),
        (b"_v2\n", b"_v3\n", CALLED),
        (b"_rebuild_tensor_v2", b"_rebuild_parameter", CALLED),
    ],
    ids=repr,
)  # fmt: skip
def test_storages(tmp_path: Path, before: bytes, after: bytes, words: str) -> None:
    program = tensor()
    assert before in program
    assert words in refusal(archive(tmp_path / "x.bin", program.replace(before, after)))


def test_one_storage_described_twice(tmp_path: Path) -> None:
    program = PROTO + b"(" + STORAGE + STORAGE.replace(b"K\x06", b"K\x05") + b"t."
    text = refusal(archive(tmp_path / "x.bin", program))
    assert "its storage '0' twice, once as 6 x F32 and once as 5 x F32" in text


def nested(levels: int, width: int) -> bytes:
    """Return lists in lists, each of which holds the one before several times."""
    numbers = [struct.pack("<I", level) for level in range(levels)]
    steps = [b"r" + number + b"](" + (b"j" + number) * width + b"e" for number in numbers]
    return PROTO + b"N" + b"".join(steps) + STOP


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (nested(30, 10), "deeper or more often than weights do"),
        (nested(100_000, 2), "deeper or more often than weights do"),
        (nested(100_000, 1), "deeper or more often than weights do"),
        (PROTO + b"]q\x00h\x00a.", "deeper or more often than weights do"),
        (PROTO + b"}q\x00X\x01\x00\x00\x00ah\x00s.", "deeper or more often than weights do"),
        (PROTO + b"(" * 100_000, "nests deeper than 1,000 levels"),
        (PROTO + b"N" + b"\x85" * 100_000 + STOP, "deeper or more often than weights do"),
        (PROTO + b"}" + b"q\x00" * 4_000_000, "takes more than 4,000,000 pickle instructions"),
        (PROTO + b"}X\xff\xff\x00\x00" + b"k" * 65535 + b"]s.", "a key of 65,535 char"),
    ],
    ids=["wide", "laughs", "deep-lists", "cycle", "cycle-of-dicts", "marks", "deep-tuples", "long",
         "key"],
)  # fmt: skip
def test_pickle_bombs(tmp_path: Path, program: bytes, words: str) -> None:
    assert words in refusal(archive(tmp_path / "x.bin", program))


def test_a_huge_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", bytes(64_000_001))
    assert "has a record data.pkl of 64,000,001 bytes, and at most 64,000,000" in refusal(path)


class TestArchives:
    @pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    @pytest.mark.parametrize("record", ["x/data.pkl", "x/data/0"])
    def test_zip_bombs(self, tmp_path: Path, record: str, kind: int) -> None:
        path = tmp_path / "x.bin"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/byteorder", b"little")
            if record != "x/data.pkl":
                file.writestr("x/data.pkl", tensor())
            file.writestr(record, bytes(10_000_000), compress_type=kind)
        assert f"whose record {record!r} is compressed, which torch.save does not" in refusal(path)

    def test_a_name_that_is_there_twice(self, tmp_path: Path) -> None:
        def again(file: zipfile.ZipFile) -> None:
            with pytest.warns(UserWarning, match="Duplicate name"):
                file.writestr("x/data/0", bytes(24))

        path = archive(tmp_path / "x.bin", tensor(), again)
        assert "whose record 'x/data/0' is there twice" in refusal(path)

    @pytest.mark.parametrize("name", ["y/data/0", "../x/data/0", "/etc/passwd"])
    def test_records_outside_the_folder(self, tmp_path: Path, name: str) -> None:
        path = archive(tmp_path / "x.bin", tensor(), lambda file: file.writestr(name, b"x"))
        assert f"whose record {name!r} is outside the folder of the others" in refusal(path)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_torchscript(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.jit"
        module = nn.Linear(3, 2)
        torch.jit.trace(module, torch.zeros(1, 3)).save(path)
        text = refusal(path)
        assert "x.jit is a TorchScript program, expected weights. Save its state" in text
        monkeypatch.chdir(tmp_path)
        exec(text.split("`")[1], {"torch": torch, "FILE": str(path)})  # noqa: S102 - as printed
        model = open_spec("model.pt", allow_pickle=True)
        assert isinstance(model, Checkpoint)
        assert torch.equal(model.read(model.entries["weight"]), module.weight)

    def test_the_format_before_1_6(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.pth"
        with monkeypatch.context() as other_machine:
            other_machine.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:7")
            torch.save(GOOD, path, _use_new_zipfile_serialization=False)
        text = refusal(path)
        assert "is in the format of PyTorch before 1.6, expected the zip format since then" in text
        exec(text.split("`")[1], {"torch": torch, "FILE": str(path)})  # noqa: S102 - as printed
        model = open_spec(path, allow_pickle=True)
        assert isinstance(model, Checkpoint)
        assert torch.equal(model.read(model.entries["a"]), GOOD["a"])

    @pytest.mark.parametrize(
        ("record", "words"),
        [
            ("weights.npy", "holds NumPy arrays, expected weights by torch.save or safetensors"),
            ("model.weights.h5", "is a Keras model, expected weights by torch.save"),
            ("x/archive_format", "is a program of torch.export, expected weights"),
            ("MAR-INF/MANIFEST.json", "is an archive of TorchServe, expected weights"),
            ("x/y", "is a zip archive without a data.pkl"),
        ],
    )
    def test_an_archive_of_something_else(self, tmp_path: Path, record: str, words: str) -> None:
        with zipfile.ZipFile(tmp_path / "x.bin", "w") as file:
            file.writestr(record, b"x")
        assert words in refusal(tmp_path)
        with pytest.raises(CheckpointError, match=words):
            open_spec(tmp_path)

    def test_another_byte_order(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/data.pkl", tensor())
            file.writestr("x/byteorder", b"big")
        assert "was saved on a big-endian machine" in refusal(path)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "has 0 bytes: the download was cut or"),
            (b"PK\x03\x04", "is a zip archive without a readable directory"),
            (b"x" * 100, "is no PyTorch file: it begins with b'xxxxxxxx', expected 'PK'"),
            (b"version https://git-lfs.github.com/spec/v1\n", "is a git-LFS pointer"),
            (b"<!doctype html><html>", "is an HTML page"),
            (pickle.dumps(3, 2) * 20, "is a bare pickle, expected a zip archive"),
            (b"\x1b[2J\n" * 20, r"is no PyTorch file: it begins with b'\x1b[2J"),
        ],
        ids=["empty", "short", "noise", "lfs", "html", "pickle", "escape"],
    )
    def test_something_else(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        assert f"{tmp_path}/pytorch_model.bin {words}" in refusal(tmp_path)

    def test_an_empty_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.bin", "w"):
            pass
        assert "has 22 bytes: the download was cut or the file is" in refusal(tmp_path)

    def test_a_cut_file_at_any_length(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        torch.save(GOOD, path)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, 7):
            path.write_bytes(whole[:length])
            assert "x.bin" in refusal(path)

    def test_a_directory_that_claims_too_much(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        torch.save(GOOD, path)
        whole = path.read_bytes()
        with path.open("wb") as file:  # the last record says where the directory is and its size
            file.write(whole[: -22 - 20 - 56])
            file.truncate(1 << 33)
            file.seek(0, os.SEEK_END)
            file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 1 << 31, 64, 0))
        assert "directory" in refusal(path)


def test_records_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(40), "b": torch.ones(40)}, path)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        places = [info.header_offset for info in file.infolist() if "/data/" in info.filename]
    second = whole.rindex(struct.pack("<L", places[1]))
    whole[second : second + 4] = struct.pack("<L", places[0] + 8)
    path.write_bytes(whole)
    assert "overlaps what follows it, which torch.save does not write" in refusal(path)


def test_a_directory_that_lies_about_a_place(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.bin", tensor())
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("x/data/0").header_offset
    path.write_bytes(whole[:place] + b"XX" + whole[place + 2 :])
    assert "whose record 'x/data/0' is not where its directory says" in refusal(path)


def test_nothing_but_plain_data_is_taken_that_weights_only_refuses() -> None:
    from torch._weights_only_unpickler import (  # noqa: PLC0415 - private: not for other tests
        _get_allowed_globals,
    )

    plain = {*INERT, *ARRAYS, *FACTORIES, DEFAULTING, "numpy.ndarray"}
    assert set(_get_allowed_globals()) >= KNOWN - plain


def test_what_the_program_allowed_for_torch_stays_refused_here(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": Calls(os.getpid)}, tmp_path / "x.bin")
    with torch.serialization.safe_globals([os.getpid]):
        assert "getpid', which weights do not need" in refusal(tmp_path)
