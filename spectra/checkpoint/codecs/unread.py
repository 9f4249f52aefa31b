"""Quantised weights that are not read: which tensors belong to them, and what they are called."""

from collections.abc import Collection, Iterator, Mapping

from spectra.checkpoint.codecs.parts import tails_of
from spectra.checkpoint.codecs.settings import Settings
from spectra.checkpoint.entry import Skipped, TensorEntry

MARKS = {
    ".W_q": "hqq",
    ".codes": "aqlm",
    ".Qidxs": "quip",
    ".trellis": "exl3",
    ".q_weight": "exl2",
    ".weight._data": "quanto",
    ".weight_qdata": "torchao",
    ".dense_weights": "spqr",
    ".centroids.weight": "vptq",
    ".weight_scales": "eetq",
    ".blocks": "mxfp4 as OpenAI stores it",
    ".compressed": "sparse-bitmask",
}
"""Names that one scheme alone gives to a part of its weights."""

FLOATING_MARKS = (".centroids.weight", ".weight_scales", ".Qidxs")
"""Those that are not stored as packed integers."""

INNER = (".weight", ".centroids", ".res_centroids")
"""What may stand between a module and a part of its weight."""

ORPHANS = (
    "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_zero_point", "weight_g_idx",
    "weight_global_scale", "weight_shape", "weight_packed", "qzeros", "g_idx", "SCB",
    "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
    "gate_up_proj_scales", "down_proj_scales", "gate_up_proj_blocks", "down_proj_blocks",
    "scale_weight", "scale_input", "comfy_quant", "gate_up_proj_scale", "down_proj_scale",
    "gate_up_proj_scale_inv", "down_proj_scale_inv",
)  # fmt: skip
"""Endings of parts that are no weights without the others."""

ENDINGS = tuple(f".{ending}" for ending in ORPHANS)

PACKED = frozenset({"U8", "I8", "I16", "U16", "I32", "U32", "F4"})
"""What packed weights are stored as; what counts positions or masks is I64 or BOOL."""

READ = frozenset({
    "", "gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "mxfp4", "mxfp8", "fbgemm_fp8",
    "modelopt", "metal",
})  # fmt: skip
"""Schemes whose every tensor is known, so that a stranger's integers are none of theirs."""


UNNAMED = "packed integers of a scheme that neither their names nor config.json tell"

BESIDE = "beside packed weights that are left out"
ALONE = "packed integers without the parts that {} stores beside them"


def unread(
    entries: Mapping[str, TensorEntry],
    taken: Collection[str],
    settings: Settings,
    left: Collection[str] = (),
) -> Iterator[Skipped]:
    """Yield every tensor that belongs to a scheme that is not read.

    Args:
        entries: Every stored tensor by name.
        taken: Those that are parts of weights which are read, or have a reason already.
        settings: The model's quantisation settings.
        left: Those of them that hold weights which are left out.
    """
    if not PACKED & {entry.dtype for entry in entries.values()}:
        tails = tails_of(entries)
        if not any(tail.endswith(ENDINGS + FLOATING_MARKS) for tail in tails):
            return  # as in most models
    schemes = _modules(entries, taken, settings, left)
    for entry in entries.values():
        if entry.name in taken:
            continue
        module = _above(entry.name, schemes)
        if module is not None and not entry.name.endswith(".bias"):
            yield Skipped(entry.name, schemes[module])
        elif f".{entry.name}".endswith(ENDINGS):
            yield Skipped(entry.name, "a part of a quantised weight, without the weight")


def _modules(
    entries: Mapping[str, TensorEntry],
    taken: Collection[str],
    settings: Settings,
    left: Collection[str],
) -> dict[str, str]:
    known = settings.method in READ
    found: dict[str, str] = {}
    for entry in entries.values():
        packed = entry.dtype in PACKED and len(entry.shape) > 0
        marked = entry.name.endswith(tuple(MARKS)) and entry.name not in taken
        for mark, scheme in MARKS.items() if marked else ():
            if entry.name.endswith(mark) and (packed or mark in FLOATING_MARKS):
                label = scheme if known else settings.label
                found[entry.name.removesuffix(mark)] = _not_read(label)
        module, _, last = entry.name.rpartition(".")
        if packed and not known:
            found.setdefault(module, _not_read(settings.label))
        elif packed and entry.dtype != "F4" and last.endswith("weight") and len(entry.shape) > 1:
            own = entries.get(f"{module}.weight", entry)
            if not module or own.is_weights:
                continue
            if entry.name in left:
                found.setdefault(module, BESIDE)
            elif entry.name not in taken:
                reason = ALONE.format(settings.label) if settings.method else UNNAMED
                found.setdefault(module, reason)
    return found


def _not_read(scheme: str) -> str:
    return f"weights of the scheme {scheme} are not read"


def _above(name: str, modules: Mapping[str, str]) -> str | None:
    """Return the module with packed weights that a tensor stands in."""
    module = name.rpartition(".")[0]
    if module not in modules and module.endswith(INNER):
        module = module.rpartition(".")[0]
    return module if module in modules else None
