"""Weights of a model that are stored as factors: put together, as one matrix each.

Names tell it: of whole layers, or of factors inside a module that is called like one. Two matrices
whose shapes alone fit are left as they are.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.codecs.composed import Blocks, Product, Sparse
from spectra.checkpoint.codecs.turned import FAMILIES, LAYERS
from spectra.checkpoint.documents import read_object
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.text import quote

INSIDE: Final = (
    (".ALinear.weight", ".BLinear.weight"),  # ASVD
    (".U.weight", ".V.weight"),
    (".u.weight", ".v.weight"),
    (".u_proj.weight", ".v_proj.weight"),
)
"""Endings of the left and the right factor that tell what they are in any module."""

NAMED: Final = (
    (".1.weight", ".0.weight"),  # PELA: two layers in the place of one
    (".up.weight", ".down.weight"),
    (".B.weight", ".A.weight"),
    (".left.weight", ".right.weight"),
)
"""Those that mean much else; factors only in a module that is called as one layer is."""

LAYER: Final = re.compile(
    r"(?:.*\.)?(?:[qkvo]_proj|qkv(?:_proj)?|out_proj|in_proj|gate_proj|up_proj|down_proj|proj|fc\d"
    r"|query|key|value|dense|lin\d|c_attn|c_proj|c_fc)"
)
HALVES: Final = re.compile(r"(?P<layer>(?:.*\.)?[a-z0-9]+)_u_proj\.weight")
"""SVD-LLM's: `q_u_proj` and `q_v_proj` for `q_proj`, `fc1_u_proj` for `fc1`."""

HEADS: Final = re.compile(r"(?P<module>.+)\.(?P<list>U|U_list)\.(?P<index>\d+)\.weight")
LATENT: Final = ".VT.weight"
"""Palu's: one projection down for all heads, and one up for each group of them."""

SPARSE: Final = ".sparse_value"
SETTINGS: Final = "splora_config.json"  # where SLTrain writes alpha and r
NO_SCALE: Final = "low-rank plus sparse, and its scale lora_alpha / r is not known: "


@dataclass(slots=True)
class _Found:
    entries: dict[str, TensorEntry]
    skipped: list[Skipped] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)  # what became part of a whole

    def put(self, whole: TensorEntry, parts: Sequence[str]) -> None:
        """Note a weight in the place of what it is made of."""
        self.entries[whole.name] = whole
        self.gone.update(parts)


def put_together(model: Checkpoint) -> Checkpoint:
    """Return a model whose factored weights are one tensor each, by the names of whole ones.

    Raises:
        CheckpointError: The settings beside it are no JSON object.
    """
    found = _Found(dict(model.entries))
    for entry in model.entries.values():
        if entry.name.endswith(SPARSE):
            _sparse(found, entry.name.removesuffix(SPARSE), model)
    for whole, left, right in _pairs(model.entries):
        _product(found, whole, left, right, model.config)
    _heads(found, model)
    if not found.gone and not found.skipped:
        return model
    entries = {name: one for name, one in found.entries.items() if name not in found.gone}
    return replace(model, entries=entries, skipped=(*model.skipped, *found.skipped))


def parts_of(entry: TensorEntry) -> list[TensorEntry]:
    """Return what a weight is a sum of: a product of factors, and sparse entries."""
    codec = entry.codec
    if not isinstance(codec, Sparse) or codec.product is None:
        return []
    of = replace(codec, product=None)
    return [
        _entry(entry.name, entry.shape, codec.product),
        _entry(entry.name, entry.shape, replace(of, name="sparse")),
    ]


def factors_of(entry: TensorEntry) -> list[TensorEntry]:
    """Return the stored factors of a weight, each a matrix of its own."""
    codec = entry.codec
    product = codec.product if isinstance(codec, Sparse) else codec
    if not isinstance(product, Product):
        return []
    left = product.left.codec
    lefts = left.pieces if isinstance(left, Blocks) else (product.left,)
    return [*lefts, product.right]


def product(name: str, made: Product, shape: tuple[int, ...]) -> TensorEntry:
    """Return a product of stored factors as one tensor."""
    return _entry(name, shape, made)


def _pairs(entries: Mapping[str, TensorEntry]) -> Iterator[tuple[str, str, str]]:
    """Yield the whole's name and the names of its left and right factor, where names tell them."""
    for name in entries:
        half = HALVES.fullmatch(name)
        if half is not None:
            layer = half["layer"]
            whole = layer if re.search(r"fc\d$", layer) else f"{layer}_proj"
            yield f"{whole}.weight", name, f"{layer}_v_proj.weight"
        for left, right in (*INSIDE, *NAMED):
            module = name.removesuffix(left)
            if module == name or ((left, right) in NAMED and not LAYER.fullmatch(module)):
                continue
            if left == ".1.weight" and f"{module}.2.weight" in entries:
                continue  # more than two layers
            yield f"{module}.weight", name, module + right


def _product(found: _Found, whole: str, left: str, right: str, config: Mapping[str, Any]) -> None:
    """Put two factors together where their inner side is the shortest one."""
    one, other = found.entries.get(left), found.entries.get(right)
    if one is None or other is None or whole in found.entries or {left, right} & found.gone:
        return
    if not (len(one.shape) == len(other.shape) == 2 and one.is_weights and other.is_weights):
        return
    (rows, inner), (again, cols) = one.shape, other.shape
    if inner != again and LAYER.fullmatch(whole.removesuffix(".weight")):
        told = f"its factors {one.name} {list(one.shape)} and {other.name} {list(other.shape)}"
        found.skipped.append(Skipped(whole, f"{told} do not fit each other"))
    if inner != again or not 0 < inner < min(rows, cols):
        return
    family = config.get("model_type")
    turned = isinstance(family, str) and family in FAMILIES and bool(LAYERS.search(whole))
    made = Product(one, other, turned=turned)
    found.put(_entry(whole, (cols, rows) if turned else (rows, cols), made), (left, right))


def _heads(found: _Found, model: Checkpoint) -> None:
    """Put together what one projection down and several up make of groups of heads."""
    groups: dict[tuple[str, str], dict[int, TensorEntry]] = {}
    for name, entry in model.entries.items():
        told = HEADS.fullmatch(name)
        if told is not None and f"{told['module']}{LATENT}" in model.entries:
            groups.setdefault((told["module"], told["list"]), {})[int(told["index"])] = entry
    for (module, _), held in groups.items():
        right, whole = model.entries[module + LATENT], f"{module}.weight"
        ups = [held[index] for index in sorted(held)]
        flat = all(len(one.shape) == 2 and one.is_weights for one in (*ups, right))
        inner = sum(one.shape[1] for one in ups) if flat else 0
        every = sorted(held) == list(range(len(held)))
        if not flat or not every or right.shape[0] != inner or whole in found.entries:
            continue
        rows, cols = sum(one.shape[0] for one in ups), right.shape[1]
        left = replace(ups[0], name=f"{module}.U", shape=(rows, inner), codec=Blocks(tuple(ups)))
        parts = [one.name for one in (*ups, right)]
        found.put(_entry(whole, (rows, cols), Product(left, right)), parts)


def _sparse(found: _Found, module: str, model: Checkpoint) -> None:
    """Put together a module of SLTrain's."""
    held, whole = model.entries, f"{module}.weight"
    names = [module + end for end in (".lora_B", ".lora_A", ".sparse_value", ".sparse_index")]
    if not all(name in held for name in names) or whole in held:
        return
    left, right, value, index = (held[name] for name in names)
    fits = len(left.shape) == len(right.shape) == 2 and left.shape[1] == right.shape[0]
    if not fits or value.numel != index.numel or index.is_weights:
        told = f"lora_B {list(left.shape)}, lora_A {list(right.shape)}, sparse_value "
        told += f"{list(value.shape)} and sparse_index {list(index.shape)} do not fit each other"
        found.skipped.append(Skipped(whole, told))
        return
    shape = left.shape[0], right.shape[1]
    scale, learnt = _scale(model, right.shape[0]), held.get(f"{module}.scaling")
    of = Sparse(index, value, shape)
    if isinstance(scale, str) and learnt is None:
        found.skipped.append(Skipped(whole, NO_SCALE + scale))
        name = f"{whole}[sparse]"
        found.put(_entry(name, shape, of), [value.name, index.name])
        return
    made = Product(
        left, right, 1.0 if learnt is not None or isinstance(scale, str) else scale, learnt
    )
    parts = [*names, *([learnt.name] if learnt is not None else [])]
    found.put(_entry(whole, shape, replace(of, product=made, name="low-rank-and-sparse")), parts)


def _scale(model: Checkpoint, rank: int) -> float | str:
    """Return SLTrain's scale; or what does not tell it, and what would."""
    folder, name = model.folder, quote(SETTINGS)
    wanted = f'{{"lora_alpha": ..., "r": {rank}}}'
    if folder is None or not folder.has(SETTINGS):
        return f"{name}, which SLTrain saves, is not beside the weights. Write it there: {wanted}"
    told = read_object(folder.file(SETTINGS))
    alpha, stored = told.get("lora_alpha"), told.get("r")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or stored != rank:
        got = ", ".join(
            f'"{key}": {json.dumps(told[key])}' for key in ("lora_alpha", "r") if key in told
        )
        return f"{name} has {got or 'neither'}, expected {wanted}"
    return alpha / rank


def _entry(name: str, shape: tuple[int, ...], codec: Product | Sparse) -> TensorEntry:
    parts = [part for part in codec.parts if part.is_weights]
    dtypes = {part.dtype for part in parts}
    first = codec.left if isinstance(codec, Product) else codec.value
    dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
    return TensorEntry(name, dtype, shape, first.shard, first.start, first.stop, codec)
