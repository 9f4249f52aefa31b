"""What a pickle of weights may name, and what a call of it describes; nothing is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

from spectra.checkpoint.entry import STORED
from spectra.errors import CheckpointError
from spectra.text import quote

MAX_AXES = 64  # of a tensor; torch's own limit
MAX_SIZE = 1 << 63  # of an axis, a stride or an offset; torch's own limit too
AGAIN = "Fetch or save that file again."
INSTEAD = (
    "Load it where you trust it, and save its state dict with safetensors "
    "(`safetensors.torch.save_file`)."
)

WORDS: Final = {f"torch.{theirs}": ours for ours, theirs in STORED.items()}
"""torch's dtypes by the words of safetensors."""

WORDLESS: Final = (
    "complex32", "complex128", "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4",
    "bits4x2", "qint8", "quint8", "qint32", "quint4x2", "quint2x4",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
)  # fmt: skip
"""Dtypes that safetensors has no word for; they keep torch's."""

BYTES = "bytes"  # the dtype of a storage that leaves it to its tensors
STORAGES: Final = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL", "torch.ComplexFloatStorage": "C64",
    "torch.ComplexDoubleStorage": "complex128", "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8", "torch.QInt32Storage": "qint32",
    "torch.QUInt4x2Storage": "quint4x2", "torch.QUInt2x4Storage": "quint2x4",
    "torch.storage.UntypedStorage": BYTES,
}  # fmt: skip

DTYPES: Final = WORDS | {f"torch.{name}": name for name in WORDLESS}

TENSORS: Final = {
    "torch._utils._rebuild_tensor": (4, 4, None, None),
    "torch._utils._rebuild_tensor_v2": (6, 7, None, 6),
    "torch._utils._rebuild_tensor_v3": (7, 8, 6, 7),
}
"""Functions of (storage, offset, shape, stride, ...): how many arguments at least and at most,
and where a dtype and metadata stand among them."""

PARAMETERS: Final = {
    "torch._utils._rebuild_parameter": 3,
    "torch._utils._rebuild_parameter_with_state": 4,
}
"""Functions of (tensor, ...), and how many arguments."""

SUBCLASS: Final = "torch._tensor._rebuild_from_type_v2"  # of (function, class, arguments, state)
UNREAD: Final = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "quantised by torch itself",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "saved without values, on the meta device",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
"""Functions that rebuild tensors whose values are not read, and why."""

DICT: Final = "collections.OrderedDict"
SHAPE: Final = "torch.Size"
OTHERS: Final = (
    "builtins.bytearray", "builtins.set", "builtins.complex", "_codecs.encode",
    "collections.Counter", "torch.device", "torch.serialization._get_layout",
)  # fmt: skip
"""What else is called in checkpoints; none of it holds weights."""

INERT: Final = (
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype",
    "argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta",
    "typing.Any",
    *(f"pathlib.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath")),
    *(f"pathlib._local.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath")),
)  # fmt: skip
"""What trainers keep beside the weights, such as a best loss or their arguments: plain data, of
which nothing is made here. torch's own reader takes these only where it is told to."""

TRAINERS: Final = (
    "lightning", "lightning_fabric", "pytorch_lightning", "omegaconf", "transformers", "accelerate",
)  # fmt: skip
"""Packages of whose objects trainers keep some beside the weights: settings, callbacks, enums.
They are passed over by their names, and nothing of those packages is looked up."""

ARRAYS: Final = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
DEFAULTING: Final = "collections.defaultdict"
FACTORIES: Final = ("builtins.dict", "builtins.list", "builtins.int", "builtins.float")

NEVER_CALLED: Final = (
    "numpy.ndarray", *FACTORIES,
    "torch.Tensor", "torch.nn.parameter.Parameter", "torch.per_tensor_affine",
    "torch.per_tensor_symmetric", "torch.per_channel_affine", "torch.per_channel_symmetric",
    "torch.per_channel_affine_float_qparams", *DTYPES, *STORAGES,
)  # fmt: skip
"""What is only an argument of others."""

KNOWN: Final = frozenset(
    (*TENSORS, *PARAMETERS, *UNREAD, *OTHERS, *INERT, *ARRAYS, *NEVER_CALLED, SUBCLASS, DICT,
     DEFAULTING, SHAPE)
)  # fmt: skip
"""All of it; every other name is refused."""


Arguments: TypeAlias = tuple[object, ...]


class PickleError(CheckpointError):
    """A pickle file that is refused; the text reads on from the file's name."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A function or class, by its name alone."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Bytes of the archive that tensors look into."""

    dtype: str  # safetensors' word, torch's where that has none, or BYTES
    key: str  # of the record `data/KEY`
    count: int  # elements


@dataclass(frozen=True, slots=True, eq=False)
class Strided:
    """A tensor as the pickle describes it; nothing is checked against the file yet."""

    storage: Storage
    dtype: str
    offset: int  # elements, as strides
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    unread: str = ""  # why its values are not what the bytes say


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A tensor of another kind."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """What is no tensor: a device, a set, a number of another kind."""

    path: str


def is_inert(path: str) -> bool:
    """Say whether a name is of plain data or of a trainer's settings."""
    return path in INERT or path.partition(".")[0] in TRAINERS


def described(function: object, arguments: object) -> object:
    """Return what a call would give, as a description.

    Args:
        function: What the pickle calls; only a `Name` is a function.
        arguments: What it calls it with; only a tuple is one.

    Raises:
        PickleError: Nothing that weights need is called in this way.
    """
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise PickleError(f" calls {quote(type(function).__name__)}, no function. {INSTEAD}")
    if is_inert(function.path):
        return Other(function.path)
    call = CALLS.get(function.path)
    found = call(function.path, arguments) if call else None
    if found is None:
        raise PickleError(
            f" calls {quote(function.path)} in a way that torch.save does not write. {AGAIN}"
        )
    return found


def stored(reference: object) -> Storage:
    """Return the storage that a persistent reference means.

    Raises:
        PickleError: It is no reference to a storage.
    """
    if isinstance(reference, tuple) and len(reference) == 5 and reference[0] == "storage":
        _, kind, key, _device, count = reference
        named = isinstance(kind, Name) and kind.path in STORAGES
        if named and isinstance(key, str) and type(count) is int and 0 <= count < MAX_SIZE:
            return Storage(STORAGES[kind.path], key, count)
    raise PickleError(f" holds a reference to what is no storage of its own. {AGAIN}")


def _tensor(path: str, arguments: Arguments) -> Strided | None:
    least, most, dtype_at, metadata_at = TENSORS[path]
    if not least <= len(arguments) <= most:
        return None
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Storage) or not _counts((offset,)):
        return None
    if not _counts(shape) or not _counts(stride) or not len(shape) == len(stride) <= MAX_AXES:
        return None
    dtype = storage.dtype
    if dtype_at is not None:
        named = arguments[dtype_at]
        if not isinstance(named, Name) or named.path not in DTYPES or dtype != BYTES:
            return None
        dtype = DTYPES[named.path]
    if dtype == BYTES:
        return None
    metadata = arguments[metadata_at] if metadata_at and len(arguments) > metadata_at else None
    unread = "a view that negates or conjugates what is stored" if metadata else ""
    return Strided(storage, dtype, offset, shape, stride, unread)  # type: ignore[arg-type]


def _parameter(path: str, arguments: Arguments) -> Strided | Unread | None:
    if len(arguments) == PARAMETERS[path] and isinstance(arguments[0], Strided | Unread):
        return arguments[0]
    return None


def _subclass(_path: str, arguments: Arguments) -> object:
    """Return the tensor that another function rebuilds, before it gets attributes."""
    inner = arguments[0] if len(arguments) == 4 else None
    if isinstance(inner, Name) and inner.path in {*TENSORS, *PARAMETERS, *UNREAD}:
        return described(inner, arguments[2])
    return None


def _counts(found: object) -> TypeGuard[tuple[int, ...]]:
    """Say whether this is a tuple of integers that a tensor can have as sizes."""
    return isinstance(found, tuple) and all(type(v) is int and 0 <= v < MAX_SIZE for v in found)


CALLS: Final[dict[str, Callable[[str, Arguments], object]]] = {
    **dict.fromkeys(TENSORS, _tensor),
    **dict.fromkeys(PARAMETERS, _parameter),
    **dict.fromkeys(UNREAD, lambda path, _: Unread(UNREAD[path])),
    **dict.fromkeys(OTHERS, lambda path, _: Other(path)),
    **dict.fromkeys(ARRAYS, lambda _, _arguments: Unread("a NumPy array")),
    SUBCLASS: _subclass,
    DICT: lambda _, arguments: None if arguments else {},
    DEFAULTING: lambda _, arguments: {} if len(arguments) < 2 else None,
    SHAPE: lambda _, arguments: arguments[0] if len(arguments) == 1 else None,
}
"""What a call describes, by the function's name; None: it cannot be meant."""
