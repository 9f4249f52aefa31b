"""LoRA without PEFT's settings, told by its names: kohya's, those of diffusers, PEFT's alone."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from spectra.checkpoint.adapter.adapter import Adapter, Naming
from spectra.checkpoint.adapter.factors import (
    BIAS,
    OF_FACTOR,
    Kind,
    LoraFactors,
    check_factors,
    note,
    refuse_empty,
    saved_names,
)
from spectra.checkpoint.adapter.methods import FLAT, method_of, refusal
from spectra.checkpoint.adapter.scales import alphas_of, scales_told, told_scale
from spectra.checkpoint.adapter.updates.opening import update_of
from spectra.checkpoint.adapter.updates.table import METHODS
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.adapter.views import Decomposed
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.errors import AdapterError
from spectra.text import quote, shown

HALF = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<peft>[AB])(?:\.default)?|\.lora_(?P<kohya>down|up|mid)"
    r"|(?:[._]lora|\.lora_linear_layer)\.(?P<diffusers>down|up))\.weight",
    re.DOTALL,
)
EMBEDDED = re.compile(r"(?P<module>.+)\.lora_embedding_(?P<peft>[AB])(?:\.default)?", re.DOTALL)
ALPHA = re.compile(r"(?P<module>.+?)(?:[._]lora|\.lora_linear_layer)?\.alpha", re.DOTALL)
LENGTHS = re.compile(
    r"(?P<module>.+)\.(?:dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?)", re.DOTALL
)
OTHER = re.compile(
    r"(?P<module>.+)\.(?P<part>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))", re.DOTALL
)
"""A tensor of LoHa or LoKr, as LyCORIS saves them."""
SIDES = {"down": "A", "up": "B", "mid": "mid"}
PARTS = re.compile(
    r"(?P<part>unet|prior|transformer(?:_\d)?|text_encoder(?:_\d)?|diffusion_model|text_encoders"
    r"|controlnet|decoder_unet|connectors)\."
)
"""The parts of a pipeline, before the names of their modules."""

OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""What diffusers called the attention of a text encoder at first."""

UNKNOWN_SCALE = (
    "there is no adapter_config.json, so alpha is not known: scale 1 (alpha = rank) is assumed"
)


@dataclass(slots=True)
class _Module:
    halves: dict[str, TensorEntry] = field(default_factory=dict)  # A, B and mid
    kind: Kind = "linear"
    alpha: TensorEntry | None = None
    magnitude: TensorEntry | None = None
    parts: dict[str, TensorEntry] = field(default_factory=dict)  # of LoHa or LoKr


def bare_adapter(weights: Checkpoint) -> Adapter | None:
    """Return the LoRA that a file without settings is; None: its tensors are a model's.

    A module's scale is its `.alpha` over its rank, or what the metadata of diffusers says; of
    those without either it is 1, as kohya, diffusers and ComfyUI take it.

    Args:
        weights: Opened as a model.

    Raises:
        AdapterError: It is an adapter of another method, or its factors do not fit.
    """
    spec, names = weights.spec, weights.entries
    rivals = [name for name in names if not _of_lycoris(name)]
    if not any("lora" in name or FLAT.match(name) or _of_lycoris(name) for name in names):
        other = method_of(rivals, factors=False)
        if other is None or _holds_models(names.values(), 0):
            return None
        raise refusal(spec, *other)
    if any(".base_layer." in name for name in names):  # a model that was saved with its layers
        return None
    if any(name.endswith((".lora_a", ".lora_b")) for name in names):
        raise AdapterError(
            f"{shown(spec)} holds factors as mlx-lm names them (lora_a, lora_b) and no settings, "
            "so their scale is not known. Give the folder, with its adapter_config.json."
        )
    modules, rest = _sorted(weights)
    count = sum(bool(module.halves or module.parts) for module in modules.values())
    own = {f"{name}{end}" for name in modules for end in (".weight", ".base_layer.weight")}
    if not count or own & rest.keys() or _holds_models(rest.values(), count):
        other = method_of(rivals, factors=False)
        if other is not None and all(FLAT.match(name) for name in names):
            raise refusal(spec, *other)
        return None
    refuse_empty(spec, names)
    other = method_of(rivals, factors=True)
    if other is not None:
        raise refusal(spec, *other)
    return _adapter(weights, modules, rest)


def _holds_models(entries: Iterable[TensorEntry], most: int) -> bool:
    """Say whether more matrices lie beside the factors than an adapter trains whole."""
    plain = (entry for entry in entries if len(entry.shape) > 1 and entry.is_weights)
    return sum(not FLAT.match(entry.name) and not _told(entry.name) for entry in plain) > most


def _of_lycoris(name: str) -> bool:
    """Say whether a tensor is one of LoHa or LoKr of a module whose part of a model is told."""
    known = FLAT.match(name) or PARTS.match(name)
    return known is not None and OTHER.fullmatch(name) is not None


def _told(name: str) -> bool:
    """Say whether a name is one of another method."""
    return method_of([name], factors=False) is not None


def _sorted(weights: Checkpoint) -> tuple[dict[str, _Module], dict[str, TensorEntry]]:
    """Return what each module has, and all other tensors, by names without PEFT's prefix."""
    modules: dict[str, _Module] = {}
    rest: dict[str, TensorEntry] = {}
    for plain, entry in saved_names(weights.spec, weights.entries):
        half, embedded = HALF.fullmatch(plain), EMBEDDED.fullmatch(plain)
        found = half or embedded
        if found:
            module = modules.setdefault(_module(found["module"]), _Module())
            side = found["peft"] or SIDES[found["kohya"] or found["diffusers"]]
            note(weights.spec, module.halves, side, entry)
            module.kind = "embedding" if embedded else "linear"
        elif _of_lycoris(plain) and (other := OTHER.fullmatch(plain)):
            own = modules.setdefault(other["module"], _Module())
            note(weights.spec, own.parts, other["part"], entry)
        elif (alpha := ALPHA.fullmatch(plain)) and entry.numel == 1:
            modules.setdefault(_module(alpha["module"]), _Module()).alpha = entry
        elif lengths := LENGTHS.fullmatch(plain):
            modules.setdefault(_module(lengths["module"]), _Module()).magnitude = entry
        else:
            rest[plain] = entry
    return modules, rest


def _module(name: str) -> str:
    """Return a module's name; diffusers' attention processors stand for its layers."""
    before, processor, leaf = name.rpartition(".processor.")
    if processor:
        return f"{before}.{leaf}.0" if leaf == "to_out" else f"{before}.{leaf}"
    before, attention, leaf = name.rpartition(".self_attn.")
    return f"{before}{attention}{OLD_TEXT.get(leaf, leaf)}" if attention else name


def _adapter(
    weights: Checkpoint, modules: Mapping[str, _Module], rest: Mapping[str, TensorEntry]
) -> Adapter:
    spec, naming = weights.spec, _naming(modules)
    skipped = [
        Skipped(entry.name, BIAS if OF_FACTOR.fullmatch(plain) else "not a LoRA factor of a weight")
        for plain, entry in rest.items()
        if ".lora_" in plain or plain.startswith("bundle_emb.")
    ]
    left_out = {item.tensor for item in skipped}
    saved = {plain: entry for plain, entry in rest.items() if entry.name not in left_out}
    if naming == "flat" and saved:
        raise AdapterError(
            f"{shown(spec)} holds {quote(next(iter(saved.values())).name)} beside its factors, "
            "which is not known and may change the model too. Merge it into its base and give the "
            "merged model."
        )
    alphas = alphas_of(weights, [module.alpha for module in modules.values() if module.alpha])
    told = scales_told(weights, modules)
    factors: dict[str, LoraFactors] = {}
    updates: dict[str, Update] = {}
    unknown = False
    for name, module in modules.items():
        if module.parts:
            made = _other(spec, name, module, alphas)
            if isinstance(made, str):
                skipped.append(Skipped(name, made))
            else:
                updates[name] = made
            continue
        if not module.halves and module.magnitude is None:  # an alpha alone changes nothing
            continue
        pair = _factors(spec, name, module)
        if module.alpha is not None:
            pair = replace(pair, scale=alphas[module.alpha.name] / pair.rank)
        elif name in told:
            pair = told_scale(spec, pair, told[name])
        else:
            unknown = unknown or naming == "dotted"
        factors[name] = pair
    return Adapter(
        weights,
        factors,
        saved,
        beside=skipped,
        coat=_coat(weights, naming),
        naming=naming,
        assumed=UNKNOWN_SCALE if unknown else "",
        updates=updates,
        method=" and ".join(_methods(factors, updates)),
    )


def _methods(factors: Mapping[str, LoraFactors], updates: Mapping[str, Update]) -> list[str]:
    """Return the methods of an adapter's modules."""
    words = {one.make: one.word for one in (METHODS["LOHA"], METHODS["LOKR"])}
    found = dict.fromkeys(words[own.method] for own in updates.values())
    return [*(["LoRA"] if factors or not found else []), *found]


def _other(spec: str, name: str, module: _Module, alphas: Mapping[str, float]) -> Update | str:
    """Return the update of a module of LoHa or LoKr, or why it is not read.

    Raises:
        AdapterError: Its tensors do not fit each other.

    Source:
        LyCORIS 4.1: the scale is alpha over the rank, and 1 where both of LoKr's are whole.
    """
    if module.magnitude is not None:
        return "lengths of outputs (DoRA) beside LoHa or LoKr, which are not read"
    method = METHODS["LOKR" if any(part.startswith("lokr") for part in module.parts) else "LOHA"]
    sides = ("hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    rank = next((module.parts[side].shape[0] for side in sides if side in module.parts), 0)
    scale = alphas[module.alpha.name] / rank if module.alpha is not None and rank else 1.0
    if module.halves or (rank == 0 and method.make == "loha"):
        raise AdapterError(
            f"{shown(spec)}: module {quote(name)} has tensors of LoRA beside those of "
            f"{method.word}, or lacks some. Save the adapter again."
        )
    return update_of(spec, name, method, module.parts, {"scale": scale})


def _naming(modules: Iterable[str]) -> Naming:
    names = list(modules)
    if all(FLAT.match(f"{name}.") for name in names):
        return "flat"
    return "parts" if any(PARTS.match(name) for name in names) else "dotted"


def _coat(weights: Checkpoint, naming: Naming) -> str:
    if naming == "dotted":
        return "PEFT without adapter_config.json"
    wrote = "kohya" if naming == "flat" else "diffusers"
    told = (weights.metadata.get(f"ss_{key}") for key in ("network_module", "base_model_version"))
    words = [quote(text)[1:-1] for text in told if isinstance(text, str) and text]
    return f"{wrote} ({', '.join(words)})" if words else wrote


def _factors(spec: str, name: str, module: _Module) -> LoraFactors:
    """Return one module's factors at scale 1."""
    halves = module.halves
    if not {"A", "B"} <= halves.keys():
        found = [*halves.values(), *([module.magnitude] if module.magnitude else [])]
        held = ", ".join(quote(entry.name) for entry in found)
        raise AdapterError(
            f"{shown(spec)}: module {quote(name)} has {held} alone, expected both factors. Save "
            "the adapter again."
        )
    a, b, magnitude = halves["A"], halves["B"], module.magnitude
    if "mid" in halves:
        a = _decomposed(spec, name, a, halves["mid"])
    if magnitude is not None and not _of_outputs(magnitude):
        raise AdapterError(
            f"{shown(spec)}: {quote(magnitude.name)} is {list(magnitude.shape)}: lengths of the "
            "inputs (DoRA with wd_on_out = False), which are not read; expected one for each "
            "output. Merge it into its base and give the merged model."
        )
    rank = a.shape[0] if a.shape else 0
    return check_factors(spec, LoraFactors(name, module.kind, a, b, rank, 1.0, magnitude))


def _of_outputs(lengths: TensorEntry) -> bool:
    """Say whether DoRA's lengths are of outputs; of a convolution PEFT has them behind an axis."""
    if not lengths.name.endswith("dora_scale"):
        return True
    return not lengths.shape or lengths.shape[0] == lengths.numel


def _decomposed(spec: str, name: str, down: TensorEntry, mid: TensorEntry) -> TensorEntry:
    rank = down.shape[0] if down.shape else 0
    plain = down.is_weights and mid.is_weights and down.numel == rank * down.shape[1]
    if not plain or len(mid.shape) < 3 or mid.shape[:2] != (rank, rank):
        raise AdapterError(
            f"{shown(spec)}: module {quote(name)} has lora_down {list(down.shape)} and lora_mid "
            f"{list(mid.shape)}, expected [r, in, 1, 1] and [r, r, height, width]. Save the "
            "adapter again."
        )
    shape = (rank, down.shape[1], *mid.shape[2:])
    return replace(down, shape=shape, codec=Decomposed(mid, down))
