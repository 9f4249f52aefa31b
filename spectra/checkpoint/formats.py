"""The formats of weights: how their files are named, and what opens them."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.gguf.opening import open_gguf
from spectra.checkpoint.pickled.opening import open_pickled, open_pickled_shards
from spectra.checkpoint.shards import open_file, open_sharded
from spectra.checkpoint.source import Folder
from spectra.text import quote


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which a folder holds weights."""

    name: str
    what: str  # several of them, for messages
    patterns: tuple[str, ...]  # of its files' names, in lower case
    usual: tuple[str, ...]  # the names that go before all others of this format
    open: Callable[[Folder, str], Checkpoint]
    pickle: bool = False  # refused unless allowed

    def names(self, name: str) -> bool:
        """Say whether a file is named like one of this format."""
        return _like(name, self.patterns)

    @property
    def is_index(self) -> bool:
        """Say whether its files only name others."""
        return self.open in {open_sharded, open_pickled_shards}


def _indexes(ending: str) -> tuple[str, ...]:
    return f"*{ending}.index.json", f"*{ending}.index.*.json"


STEMS = ("model", "diffusion_pytorch_model")
SAFETENSORS = Format(
    "safetensors",
    "safetensors files and no index",
    ("*.safetensors", "*.sft"),
    tuple(f"{stem}.safetensors" for stem in STEMS),
    open_file,
)
SAFETENSORS_INDEX = Format(
    "safetensors",
    "indexes",
    _indexes(".safetensors"),
    tuple(f"{stem}.safetensors.index.json" for stem in STEMS),
    open_sharded,
)
GGUF = Format("GGUF", "GGUF files", ("*.gguf",), (), open_gguf)
PICKLE = Format(
    "PyTorch pickle",
    "PyTorch pickle files and no index",
    ("*.bin",),
    ("pytorch_model.bin", "diffusion_pytorch_model.bin"),
    open_pickled,
    pickle=True,
)
PICKLE_INDEX = Format(
    "PyTorch pickle",
    "indexes",
    _indexes(".bin"),
    ("pytorch_model.bin.index.json", "diffusion_pytorch_model.bin.index.json"),
    open_pickled_shards,
    pickle=True,
)
FORMATS = (
    SAFETENSORS,
    SAFETENSORS_INDEX,
    GGUF,
    PICKLE,
    PICKLE_INDEX,
    *(
        Format("PyTorch pickle", "PyTorch pickle files", patterns, (), open_pickled, pickle=True)
        for patterns in (
            ("*.pth",),
            ("*.pt",),
            ("*.ckpt",),
            ("*.pth.tar", "*.pt.tar", "*.ckpt.tar", "*.jit"),
        )
    ),
)
"""In the order in which a folder is searched."""

DCP = (
    "a torch distributed checkpoint",
    (
        "Convert it first: "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR x.pt`."
    ),
)
CONVERT = "Save the model as safetensors (`model.save_pretrained(folder)`) and give that folder."
ZERO = (
    "partitions of DeepSpeed ZeRO",
    (
        "Put them together: `python zero_to_fp32.py FOLDER OUT`, FOLDER with the file `latest`, "
        "and give OUT."
    ),
)
NOT_READ = {
    "*zero_pp_rank_*.pt": ZERO,
    "*.distcp": DCP,
    ".metadata": DCP,
    "*.msgpack": ("Flax weights", CONVERT),
    "*.h5": ("TensorFlow weights", CONVERT),
    "*.keras": ("a Keras model", CONVERT),
    "*.ckpt.index": ("a TensorFlow checkpoint", CONVERT),
    "saved_model.pb": ("a TensorFlow model", CONVERT),
    "*.tflite": ("a TensorFlow Lite model", CONVERT),
    "*.onnx": ("an ONNX model", CONVERT),
    "*.npz": ("NumPy arrays", CONVERT),
    "*.npy": ("a NumPy array", CONVERT),
    "openvino*.bin": ("OpenVINO weights", CONVERT),
    "*.pdparams": ("PaddlePaddle weights", CONVERT),
    "*.mlmodel": ("a Core ML model", CONVERT),
    "rust_model.ot": ("weights of tch, for Rust", CONVERT),
    "manifest.ocdbt": ("an Orbax checkpoint of JAX", CONVERT),
}
"""Formats that are recognised by name and refused, and what to do instead."""

NOT_WEIGHTS = (
    "training_args.bin",
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "random_states_*",
    "scaler.pt",
    "sampler*.bin",
    "*optim_states.pt",
)
"""What trainers leave beside the weights under weights' endings."""


def is_state(name: str) -> bool:
    """Say whether a file is what a trainer leaves beside weights."""
    return _like(name, NOT_WEIGHTS)


@cache  # a folder's names are gone through several times
def format_named(name: str) -> Format | None:
    """Return the format that a file is named like; None: no format that is read."""
    if refused_name(name):
        return None
    return next((one for one in FORMATS if one.names(name)), None)


def weights_in(folder: Folder) -> list[str]:
    """Return the names of the files of weights in a folder, and of their indexes."""
    return [name for name in folder.names() if format_named(name) and not is_state(name)]


def refused_name(name: str) -> str:
    """Return the pattern of the formats that are not read that a name matches, or nothing."""
    return next((pattern for pattern in NOT_READ if _like(name, (pattern,))), "")


def refused_text(pattern: str, name: str = "") -> str:
    """Return what is said of a format that is not read, or of its file in a folder."""
    what, instead = NOT_READ[pattern]
    return f"{what}{f' ({quote(name)})' if name else ''}, expected safetensors. {instead}"


def _like(name: str, patterns: tuple[str, ...]) -> bool:
    small = name.lower()
    return any(fnmatchcase(small, pattern) for pattern in patterns)
