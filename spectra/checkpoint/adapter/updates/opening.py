"""An adapter of a method other than LoRA, as PEFT saves it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from spectra.checkpoint.adapter.adapter import Adapter, NewRows
from spectra.checkpoint.adapter.factors import WRAPPERS, bare_names, refuse_empty, sort_tensors
from spectra.checkpoint.adapter.settings import (
    CONFIG,
    KNOWN,
    MERGE,
    UNKNOWN,
    settings_of,
    texts,
    token_indices,
    unread_method,
    unsupported,
)
from spectra.checkpoint.adapter.updates.held import contradiction, told_of
from spectra.checkpoint.adapter.updates.table import BAT, METHODS, NOT_READ, Method
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.errors import AdapterError
from spectra.text import counted, quote, shown

USUAL = KNOWN - {"use_rslora", "use_dora", "target_parameters", "lora_bias"} | {"init_weights"}
WHOLE, TOKENS = "LN_TUNING", "TRAINABLE_TOKENS"
TYPES = frozenset({*METHODS, *NOT_READ, WHOLE, TOKENS})
"""What `peft_type` may be beside LORA."""

UNLOADED = f"{CONFIG} contradicts its tensors: their shapes are taken, which PEFT does not load so"


IDLE: Mapping[str, str] = {
    "ADALORA": "its budget leaves", "OSF": "effective_rank keeps every direction, which leaves",
}  # fmt: skip
"""Methods whose settings may leave a module nothing to train, and which do."""


def method_adapter(
    spec: str, config: Mapping[str, Any], weights: Checkpoint, *, lenient: bool = False
) -> Adapter:
    """Put an adapter together from its settings and its tensors.

    Args:
        spec: As it was asked for.
        config: adapter_config.json.
        weights: Its tensors.
        lenient: Modules of another rank than the settings say are told, where otherwise they are
            refused if their scale hangs on it.

    Raises:
        AdapterError: It is of a method that is not read, or its tensors do not fit.
    """
    kind = str(config.get("peft_type"))
    if kind == WHOLE:
        return _whole(spec, config, weights)
    if kind == TOKENS:
        return _tokens(spec, config, weights)
    method = METHODS[kind]
    modules, shared, rest = _sorted(weights.entries, method)
    idle = [name for name, own in modules.items() if _idle(kind, own)]
    if modules and len(idle) == len(modules):
        raise AdapterError(
            f"{shown(spec)} changes nothing: {IDLE[kind]} all of its "
            f"{counted(len(modules), 'module')} nothing to train. The model is its base: leave it "
            "out."
        )
    modules = {name: own for name, own in modules.items() if name not in idle}
    held = [*shared.values(), *(one for own in modules.values() for one in own.values())]
    if not modules:
        raise AdapterError(
            f"{shown(spec)} holds no tensors of {method.word} in {', '.join(weights.files)}. Save "
            "the adapter again (`save_pretrained`)."
        )
    refuse_empty(spec, {entry.name: entry for entry in held})
    updates, skipped, wrong = _updates(spec, config, method, modules, shared)
    if wrong and method.scaled and not lenient:
        module, text = next(iter(wrong.items()))
        raise AdapterError(
            f"{shown(spec)}: module {quote(module)} {text}, so its scale is unknown. Give the "
            "config saved with these weights."
        )
    assumed = UNKNOWN if method.scaled else UNLOADED
    beside = _beside(spec, config, rest)
    return replace(
        beside, weights=weights, config=config, beside=(*beside.beside, *skipped),
        updates=updates, method=method.word, contradictions=wrong,
        assumed=assumed if wrong else "",
    )  # fmt: skip


def _updates(
    spec: str,
    config: Mapping[str, Any],
    method: Method,
    modules: Mapping[str, Mapping[str, TensorEntry]],
    shared: Mapping[str, TensorEntry],
) -> tuple[dict[str, Update], list[Skipped], dict[str, str]]:
    """Return the updates of modules, those that are not read, and what contradicts the settings.

    Raises:
        AdapterError: Tensors or settings do not fit.
    """
    kind = str(config.get("peft_type"))
    scales = settings_of(config, modules, "alpha") if method.scaled else {}
    numbers = told_of(config, kind, [*modules])
    updates, skipped = {}, []
    wrong: dict[str, str] = {}
    for name, own in modules.items():
        told = _told(spec, config, method, name, own)
        sizes = {part: entry.shape for part, entry in own.items()}
        text, held = contradiction(config, kind, sizes, numbers[name])
        if text:
            wrong[name] = text
        told |= {key: value for key, value in held.items() if key in told}
        if method.scaled:
            own_scale = scales[name]
            told["scale"] = own_scale.scale * own_scale.rank / held.get("r", own_scale.rank)
        made = update_of(spec, name, method, {**own, **shared}, told)
        if isinstance(made, str):
            skipped.append(Skipped(name, made))
        else:
            updates[name] = made
    if shared:
        sizes = {part: entry.shape for part, entry in shared.items()}
        text, _ = contradiction(config, kind, sizes, told_of(config, kind, [""])[""])
        if text:
            wrong[" and ".join(sorted(shared))] = text
    return updates, skipped, wrong


def _idle(kind: str, own: Mapping[str, TensorEntry]) -> bool:
    """Say whether nothing of a module is trained, so that its tensors have no elements."""
    if kind == "OSF":
        rows = own["osf_svd_params.U_low"].shape if "osf_svd_params.U_low" in own else ()
        return len(rows) == 2 and rows[0] > 0 and rows[1] == 0
    return kind == "ADALORA" and not all(one.numel for one in own.values())


def update_of(
    spec: str, name: str, method: Method, parts: Mapping[str, TensorEntry], told: Mapping[str, Any]
) -> Update | str:
    """Return the update of one module, or why it is not read.

    Raises:
        AdapterError: Tensors are missing or do not fit each other.
    """
    sizes = {part: entry.shape for part, entry in parts.items()}
    if method.make == "miss" and any(len(shape) == 3 for shape in sizes.values()):
        method = BAT
    missing = [part for part in method.needs if part not in parts]
    if missing:
        raise AdapterError(
            f"{shown(spec)}: module {quote(name)} lacks {missing[0]}, which {method.word} needs "
            f"beside {', '.join(sorted(parts))}. Save the adapter again{_with(missing[0])}."
        )
    try:
        refused = method.refused(sizes, told)
        shape, rank = method.shape(sizes, told), method.rank(sizes)
        bias = method.bias(told)
    except (KeyError, IndexError, ValueError, TypeError):
        held = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(sizes.items()))
        raise AdapterError(
            f"{shown(spec)}: module {quote(name)} has {held}, which make no {method.word} update. "
            "Save the adapter again."
        ) from None
    if refused:
        return f"{method.word} with {refused}"
    table = any("embedding" in part for part in parts)
    return Update(
        name, method.make, method.form, tuple(sorted(parts.items())), tuple(told.items()),
        shape, rank, "embedding" if table else "linear", bias,
    )  # fmt: skip


def _with(part: str) -> str:
    """Say by which setting PEFT saves what may be left out."""
    if part.startswith("tinylora_P"):
        return " with save_projection = True"
    return ""


def _sorted(
    entries: Mapping[str, TensorEntry], method: Method
) -> tuple[
    dict[str, dict[str, TensorEntry]], dict[str, TensorEntry], dict[str, TensorEntry]
]:  # fmt: skip
    """Return what each module has, what all share, and all other tensors by stored name."""
    own = re.compile(rf"(?P<module>.+?)\.(?P<part>{method.parts})", re.DOTALL)
    common = re.compile(rf"(?:base_model\.)?({method.shared})") if method.shared else None
    modules: dict[str, dict[str, TensorEntry]] = {}
    shared: dict[str, TensorEntry] = {}
    rest: dict[str, TensorEntry] = {}
    for stored, plain in bare_names(entries).items():
        of_all = common.fullmatch(plain) if common else None
        found = own.fullmatch(plain)
        if of_all:
            shared[of_all[1]] = entries[stored]
        elif found:
            module = WRAPPERS.sub("", f"{found['module']}.")[:-1]
            modules.setdefault(module, {})[found["part"]] = entries[stored]
        else:
            rest[stored] = entries[stored]
    return modules, shared, rest


def _beside(spec: str, config: Mapping[str, Any], rest: Mapping[str, TensorEntry]) -> Adapter:
    """Return an adapter of what lies beside a method's own tensors.

    Raises:
        AdapterError: It holds another method's.
    """
    empty = Adapter(Checkpoint(spec, spec, {}, {}), {}, {})
    if not rest:
        return empty
    found = sort_tensors(spec, rest)
    other = next((entry for own in found.halves.values() for entry in own.values()), None)
    other = other or next(iter(found.magnitudes.values()), None)
    if other is not None:
        raise AdapterError(
            f"{shown(spec)} holds {quote(other.name)}, a factor of LoRA, but {CONFIG} says "
            f"{quote(config.get('peft_type'))}. {MERGE}"
        )
    rows = {module: rows_of(spec, config, module, one) for module, one in found.tokens.items()}
    return replace(empty, saved=found.saved, beside=found.skipped, rows=rows)


def _whole(spec: str, config: Mapping[str, Any], weights: Checkpoint) -> Adapter:
    """Return norms that were trained whole (LN tuning)."""
    refuse_empty(spec, weights.entries)
    saved = {
        plain.replace(".ln_tuning_layers.", "."): weights.entries[stored]
        for stored, plain in bare_names(weights.entries).items()
    }
    return Adapter(weights, {}, saved, config, method="LN tuning")


def _tokens(spec: str, config: Mapping[str, Any], weights: Checkpoint) -> Adapter:
    """Return rows of embeddings alone (trainable tokens)."""
    rows = {"trainable_token_indices": config.get("token_indices")}
    found = _beside(spec, {**config, **rows}, weights.entries)
    return replace(found, weights=weights, config=config, method="trainable tokens")


def rows_of(spec: str, config: Mapping[str, Any], module: str, entry: TensorEntry) -> NewRows:
    """Return which rows of an embedding a tensor replaces.

    Raises:
        AdapterError: It does not fit what the settings say.
    """
    indices = token_indices(config, module)
    if not entry.is_weights or len(entry.shape) != 2 or entry.shape[0] != len(indices):
        raise AdapterError(
            f"{shown(spec)}: {quote(entry.name)} is {entry.dtype} {list(entry.shape)}, expected "
            f"{len(indices):,} rows of floating point, one for each of trainable_token_indices. "
            "Save the adapter again."
        )
    return NewRows(tuple(indices), entry)


def refuse_unread(spec: str, config: Mapping[str, Any]) -> None:
    """Refuse by name a method, or a setting of one, that is not read.

    Raises:
        AdapterError: It is one.
    """
    kind = str(config.get("peft_type"))
    if kind in NOT_READ:
        raise unread_method(spec, kind, NOT_READ[kind])
    if kind not in METHODS:
        return
    method = METHODS[kind]
    known = {*USUAL, *method.settings, *method.idle, "alpha" if method.scaled else ""}
    for setting, value in config.items():
        if value and setting not in known and not setting.endswith("dropout"):
            raise unsupported(spec, f"the setting {quote(setting)} of {method.word}")


def _told(
    spec: str, config: Mapping[str, Any], method: Method, module: str,
    parts: Mapping[str, TensorEntry],
) -> dict[str, Any]:  # fmt: skip
    """Return the settings that count, in the order of the table."""
    told = {}
    for key, usual in method.settings.items():
        value = config.get(key)
        value = usual if value is None else value
        if not _alike(value, usual):
            raise AdapterError(
                f"{CONFIG}: {key} is {quote(value)}, expected a value such as {usual!r}. Save the "
                "adapter again."
            )
        told[key] = value
    if method.make == "ia3":
        told["feedforward"] = _feedforward(spec, config, module, parts)
    return told


def _alike(value: Any, usual: Any) -> bool:  # noqa: ANN401 - any JSON values
    """Say whether a value is of the kind that a setting has; numbers within reason."""
    if value is None:
        return usual is None
    if isinstance(value, int | float) and not isinstance(value, bool):
        kinds = isinstance(usual, int | float) and not isinstance(usual, bool)
        return (kinds or usual is None) and abs(value) <= 1e9
    return isinstance(value, str | bool) and isinstance(usual, str | bool)


def _feedforward(
    spec: str, config: Mapping[str, Any], module: str, parts: Mapping[str, TensorEntry]
) -> bool:
    """Say whether (IA)^3 scales a module's inputs."""
    shape = parts["ia3_l"].shape if "ia3_l" in parts else ()
    if len(shape) == 2 and 1 in shape and shape != (1, 1):
        return shape[0] == 1
    named: object = config.get("feedforward_modules")
    if isinstance(named, str):
        raise unsupported(
            spec, f"a pattern for feedforward_modules, of which {quote(module)} may be one"
        )
    ends: Iterable[str] = texts(config, "feedforward_modules")
    return any(module.endswith(end) for end in ends)
