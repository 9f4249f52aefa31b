"""What people have: variants, links, odd names, wrappers, roots of pipelines, stray files."""

import json
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.faults.fault import Fault, read, spectra

Make = Callable[[Path], None]
Holds = Callable[[str], bool]


def weights(layers: int = 4, size: int = 16, seed: int = 0) -> dict[str, Tensor]:
    """Return one matrix a layer."""
    made = torch.Generator().manual_seed(seed)
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(layers)]
    return {name: torch.randn(size, size, generator=made) for name in names}


def put(folder: Path, names: Sequence[str], index: str = "", layers: int = 4) -> Path:
    """Write a model in as many files, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    state = weights(layers)
    keys, homes = list(state), {}
    for number, name in enumerate(names):
        share = keys[number * layers // len(names) : (number + 1) * layers // len(names)]
        save_file({key: state[key] for key in share}, folder / name)
        homes |= dict.fromkeys(share, name)
    if index:
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    return folder


def parts(stem: str, count: int = 2) -> list[str]:
    """Return the names of parts."""
    return [stem.format(f"{n:05}-of-{count:05}") for n in range(1, count + 1)]


def said(*args: str) -> Callable[[Path], str]:
    """Return a question whose answer is the sentence on top, or the error."""
    return lambda folder: read(folder, *args).reading


def screen(*args: str) -> Callable[[Path], str]:
    """Return a question whose answer is all that is shown."""

    def ask(folder: Path) -> str:
        ran = spectra(folder, *args)
        return " ".join((ran.out + ran.err).split())

    return ask


def has(*words: str, never: Sequence[str] = ()) -> Holds:
    """Return a judge of words that are said and of words that are not."""
    return lambda text: all(w in text for w in words) and not any(w in text for w in never)


FOUR = has("4 matrices")


def two_variants(folder: Path) -> None:
    put(folder / "m", ["diffusion_pytorch_model.safetensors"])
    put(folder / "m", ["diffusion_pytorch_model.fp16.safetensors"], layers=2)


def pipeline(folder: Path) -> None:
    for name in ("unet", "vae"):
        put(folder / "pipe" / name, ["diffusion_pytorch_model.safetensors"])
    (folder / "pipe" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def deepspeed(folder: Path) -> None:
    inner = folder / "run" / "checkpoint-90" / "global_step90"
    inner.mkdir(parents=True)
    (inner / "zero_pp_rank_0_mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04" + bytes(60))
    put(folder / "run" / "checkpoint-500", ["model.safetensors"])


def links(folder: Path) -> None:
    blobs, local = folder / "hub" / "models--o--n" / "blobs", folder / "local_dir"
    put(blobs, ["0" * 64])
    local.mkdir()
    (local / "model.safetensors").symlink_to(blobs / ("0" * 64))


def climbs(folder: Path) -> None:
    put(folder / "m", parts("model-{}.safetensors"), "model.safetensors.index.json")
    homes = dict.fromkeys(weights(), "../secret.safetensors")
    (folder / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))


def blob(folder: Path) -> None:
    from gguf import GGUFWriter  # noqa: PLC0415 - an extra

    writer = GGUFWriter(folder / "sha256-0f3c", "llama")
    for layer in range(4):
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", np.ones((16, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def saved(name: str, **beside: object) -> Make:
    """Return a maker of a training checkpoint with other things beside the weights."""

    def make(folder: Path) -> None:
        state = {f"module.{key}": value for key, value in weights().items()}
        torch.save({"state_dict": state, **beside}, folder / name)

    return make


def transposed(folder: Path) -> None:
    torch.manual_seed(1)
    table = torch.randn(64, 32).half()
    table[3, 5] = table[7, 9] = torch.finfo(torch.float16).max
    torch.save({"model.layers.0.mlp.up_proj.weight": table.T}, folder / "m.pt")


def saturated(folder: Path) -> str:
    ran = read(folder, "check", "m.pt", "--allow-pickle", "--select", "SPC013", "--isolated")
    (row,) = ran.document["rows"]
    codes = [one["rule"] for one in ran.document["summary"]["findings"]]
    return f"codec {row['codec']}, saturated {row['saturated']}, {' '.join(codes)}"


def old(folder: Path) -> None:
    torch.save(weights(), folder / "old.pth", _use_new_zipfile_serialization=False)


def rewritten(folder: Path) -> str:
    """Follow the advice as it is printed, and open what comes of it."""
    advice = spectra(folder, "ls", "old.pth", "--allow-pickle").err.split("`")[1]
    exec(advice, {"torch": torch, "FILE": str(folder / "old.pth")})  # noqa: S102 - as printed
    return f"{advice}: {read(folder, 'ls', 'old.pth', '--allow-pickle').reading}"


def ctranslate2(folder: Path) -> None:
    name = b"TransformerDecoderSpec\x00"
    raw = struct.pack("<IH", 6, len(name)) + name + struct.pack("<II", 8, 120) + bytes(200)
    (folder / "model.bin").write_bytes(raw)


def onnx(folder: Path) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(99))


def script(folder: Path) -> None:
    with torch.no_grad():
        torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)).save(str(folder / "m.jit"))


def wrapped(rename: Callable[[str], str]) -> Make:
    """Return a maker of a base and of what became of it, names as wrappers leave them."""

    def make(folder: Path) -> None:
        base = weights() | {"lm_head.weight": torch.randn(16, 16)}
        tuned = {rename(key): value + 0.1 * torch.randn(16, 16) for key, value in base.items()}
        for name, state in (("base", base), ("tuned", tuned)):
            (folder / name).mkdir()
            save_file(state, folder / name / "model.safetensors")

    return make


def inside(word: str) -> Callable[[str], str]:
    """Return names with a wrapper around each layer."""
    return lambda name: re.sub(r"(layers\.\d+\.)", rf"\g<1>{word}.", name)


def stray(folder: Path) -> None:
    put(folder / "m", parts("model-{}.safetensors"), "model.safetensors.index.json")
    put(folder / "m", ["model.safetensors"], layers=1)


def consolidated(folder: Path) -> None:
    put(folder / "m", parts("model-{}.safetensors"), "model.safetensors.index.json")
    put(folder / "m", ["consolidated.safetensors"])


def sentences(folder: Path) -> None:
    put(folder / "m", ["model.safetensors"])
    listed = [{"path": "", "type": "x.Transformer"}, {"path": "2_Dense", "type": "x.Dense"}]
    (folder / "m" / "modules.json").write_text(json.dumps(listed))
    (folder / "m" / "2_Dense").mkdir()
    broken = torch.randn(8, 16)
    broken[3, 5] = float("nan")
    save_file({"linear.weight": broken}, folder / "m" / "2_Dense" / "model.safetensors")


SEVERAL = "several files and no index"
FETCH = "not a safetensors file: header of 578,712,552,184,433,488 bytes. Fetch it again"
HALF = "full fine-tuning on head alone"
WRAPPED: Mapping[str, Callable[[str], str]] = {
    "compile": lambda name: f"_orig_mod.{name}",
    "ddp_compile": lambda name: f"module._orig_mod.{name}",
    "fsdp_each": inside("_fsdp_wrapped_module"),
    "ckpt_each": inside("_checkpoint_wrapped_module"),
    "compile_each": inside("_orig_mod"),
}
DIFFUSERS = "diffusion_pytorch_model"
VARIANTS: Mapping[str, tuple[Sequence[str], str]] = {
    "tf_one": (["model.fp16.safetensors"], ""),
    "tf_shards": (parts("model.fp16-{}.safetensors"), "model.safetensors.index.fp16.json"),
    "df_shards": (
        parts(f"{DIFFUSERS}.fp16-{{}}.safetensors"),
        f"{DIFFUSERS}.safetensors.index.fp16.json",
    ),
    "df_shards_old": (
        parts(f"{DIFFUSERS}-{{}}.fp16.safetensors"),
        f"{DIFFUSERS}.fp16.safetensors.index.json",
    ),
}


def maker(names: Sequence[str], index: str) -> Make:
    """Return a maker of one variant."""

    def make(folder: Path) -> None:
        put(folder / "m", names, index)

    return make


FAULTS: tuple[Fault, ...] = (
    *(
        Fault(f"loader variant {kind}", SEVERAL, "opened", maker(*named), said("ls", "m"), FOUR)
        for kind, named in VARIANTS.items()
    ),
    Fault(
        "loader variant by its index", "a server's error message", "opened",
        maker(*VARIANTS["tf_shards"]), said("ls", "m/model.safetensors.index.fp16.json"), FOUR,
    ),
    Fault("loader variant beside another", SEVERAL, "the default", two_variants, said("ls", "m"),
          FOUR),
    Fault("loader variant asked for", "no such option", "fp16", two_variants,
          said("ls", "m", "--variant", "fp16"), has("2 matrices")),
    Fault("loader variant not there", "no such option", "those that are", two_variants,
          said("ls", "m", "--variant", "bf16"), has("no weights of the variant 'bf16'", "fp16")),
    Fault("loader links", "outside its folder. Refused", "opened", links, said("ls", "local_dir"),
          FOUR),
    Fault("loader links index climbs out", "refused", "refused", climbs, said("ls", "m"),
          has("an index must not reach elsewhere")),
    Fault("loader odd_names ollama", FETCH, "read as GGUF", blob, said("ls", "sha256-0f3c"), FOUR),
    Fault("loader odd_names folder", "holds no weights", "read as GGUF", blob, said("ls", "."),
          FOUR),
    Fault("loader odd_names pth.tar", FETCH, "read",
          saved("best.pth.tar", epoch=3, best=torch.tensor(3.0)),
          said("ls", "best.pth.tar", "--allow-pickle"), FOUR),
    Fault("loader odd_names pth.tar not allowed", FETCH, "named as a pickle",
          saved("best.pth.tar"), said("ls", "best.pth.tar"),
          has("best.pth.tar holds PyTorch pickle weights", "--allow-pickle")),
    Fault("loader odd_names numpy scalars", "uses 'numpy._core.multiarray.scalar'", "read",
          saved("x.ckpt", best=np.float64(0.5), loss=np.float32(1)),
          said("ls", "x.ckpt", "--allow-pickle"), FOUR),
    Fault("loader odd_names payload", "refused", "refused", saved("x.ckpt", hook=os.getcwd),
          said("ls", "x.ckpt", "--allow-pickle"),
          has("which weights do not need: refused, and nothing in it was run")),
    Fault("loader odd_names upper case", "holds no weights", "read",
          lambda folder: put(folder / "m", ["MODEL.SAFETENSORS"]) and None, said("ls", "m"), FOUR),
    Fault("loader odd_names jit", FETCH, "a TorchScript program", script, said("ls", "m.jit"),
          has("m.jit is a TorchScript program")),
    Fault("loader strided", "codec strided, saturated null", "no codec, SPC013", transposed,
          saturated, lambda text: text == "codec None, saturated 2, SPC013"),
    Fault("loader before 1.6", "`torch.load` without map_location", "works as printed", old,
          rewritten, has("map_location='cpu'", "4 matrices")),
    Fault("loader reasons ctranslate2", "Fetch it again", "a CTranslate2 model", ctranslate2,
          said("ls", "model.bin", "--allow-pickle"),
          has("model.bin is a CTranslate2 model", never=["again"])),
    Fault("loader reasons onnx", "m holds an ONNX model", "the file is", onnx,
          said("ls", "m/model.onnx"), has("m/model.onnx is an ONNX model")),
    *(
        Fault(f"loader wrapped {kind}", HALF, "all of 5", wrapped(rename),
              said("diff", "base", "tuned"), has("5 of 5 matrices"))
        for kind, rename in WRAPPED.items()
    ),
    Fault("loader root diffusers", "holds no weights", "its folders", pipeline,
          said("ls", "pipe"), has("Give one: pipe/unet, pipe/vae")),
    Fault("loader root deepspeed", "holds no weights", "its folders, and what cannot be read",
          deepspeed, said("ls", "run"),
          has("Give one: run/checkpoint-500.", "zero_to_fp32.py run/checkpoint-90 OUT")),
    Fault("loader st", "PASS: NaN in 2_Dense", "FAIL", sentences,
          screen("check", "m", "--isolated"),
          has("FAIL", "2_Dense/linear.weight", "1 NaN, the first at [3, 5]")),
    Fault("loader mistral stray", "nothing was said", "what was not opened", stray,
          screen("ls", "m"),
          has("1 matrix", "model.safetensors.index.json: 3 of its 4 tensors are not in",
              "not read: model-00001-of-00002.safetensors")),
    Fault("loader mistral both", "nothing was said", "consolidated.safetensors named", consolidated,
          screen("ls", "m"),
          has("4 matrices", "not read: consolidated.safetensors: Mistral's own form")),
)  # fmt: skip
