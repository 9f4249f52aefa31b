"""An adapter as PEFT saves it: its settings, and the factors that they give a rank and a scale."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import (
    BIAS,
    DROPPED,
    OF_FACTOR,
    WRAPPERS,
    Kind,
    LoraFactors,
    Sorted,
    bare_names,
    check_factors,
    sort_tensors,
    unnested,
)
from spectra.checkpoint.adapter.settings import (
    CONFIG,
    MERGE,
    UNKNOWN,
    Setting,
    flag,
    peft_version,
    settings_of,
    targeted,
    texts,
)
from spectra.checkpoint.adapter.updates.opening import rows_of
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import TensorEntry
from spectra.checkpoint.source import Folder
from spectra.errors import AdapterError
from spectra.text import endings, quote, shown

ATTENTION_OUTPUT = ".base_layer.out_proj"
"""Inside torch.nn.MultiheadAttention, whose settings are those of the attention itself."""

TWICE = (0, 21, 2)
"""The last PEFT known to add the update of an attention's output twice, in training too."""


def adapter_of(
    folder: Folder, config: Mapping[str, Any], weights: Checkpoint, *, lenient: bool = False
) -> Adapter:
    """Put an adapter together from its settings and its tensors.

    Args:
        folder: Where it lies.
        config: adapter_config.json.
        weights: Its tensors.
        lenient: Modules of another rank than the settings say are told, where otherwise they are
            refused.

    Raises:
        AdapterError: Its factors do not fit each other or the settings.
    """
    spec = folder.spec
    found = sort_tensors(spec, weights.entries)
    wrong: dict[str, str] = {}
    factors = _factors(spec, config, found, wrong if lenient else None)
    rows = {module: rows_of(spec, config, module, entry) for module, entry in found.tokens.items()}
    if not factors and not found.saved and not rows:
        raise AdapterError(
            f"{shown(spec)} holds no LoRA factors (lora_A, lora_B) in "
            f"{', '.join(weights.files)}. Save the adapter again (`save_pretrained`)."
        )
    assumed = UNKNOWN if wrong else ""
    beside = found.skipped
    if not config.get("lora_bias"):
        for module, text in _dropped(found).items():
            wrong[module] = f"{wrong[module]}; it {text}" if module in wrong else text
        beside = [replace(one, reason=DROPPED) if one.reason == BIAS else one for one in beside]
    return Adapter(
        weights, factors, found.saved, config, beside, rows,
        assumed=assumed, contradictions=wrong,
    )  # fmt: skip


def _dropped(found: Sorted) -> dict[str, str]:
    """Say by module which biases PEFT does not load, as the settings ask for none."""
    stored = bare_names([item.tensor for item in found.skipped]).values()
    matches = (OF_FACTOR.fullmatch(name) for name in stored)
    modules = [WRAPPERS.sub("", f"{match['module']}.")[:-1] for match in matches if match]
    text = f"has a lora_B.bias, which PEFT drops, as {CONFIG} does not set lora_bias"
    return dict.fromkeys(modules, text)


def _factors(
    spec: str, config: Mapping[str, Any], found: Sorted, wrong: dict[str, str] | None
) -> dict[str, LoraFactors]:
    dora = flag(config, "use_dora")
    parameters = _parameters(config, [module for module, _ in found.halves])
    settings = settings_of(config, _setting_names(parameters))
    factors: dict[str, LoraFactors] = {}
    for (module, kind), halves in found.halves.items():
        own = parameters[module] if kind == "linear" else []
        key = module if own else WRAPPERS.sub("", module)
        if key in factors:
            raise AdapterError(
                f"{shown(spec)}: module {quote(key)} has factors of an embedding and of a "
                "linear layer, expected one pair. Save the adapter again."
            )
        magnitude = found.magnitudes.pop(module, None)
        if (magnitude is not None) != (dora and not own):
            held = "no lora_magnitude_vector" if magnitude is None else "a lora_magnitude_vector"
            raise AdapterError(
                f"{shown(spec)}: module {quote(key)} has {held}, but {CONFIG} says use_dora = "
                f"{quote(config.get('use_dora'))}. Give the config saved with these weights."
            )
        if set(halves) != {"A", "B"}:
            raise AdapterError(
                f"{shown(spec)}: module {quote(key)} has lora_{''.join(halves)} alone, expected "
                "lora_A and lora_B. Save the adapter again."
            )
        choices = {name: settings[name] for name in own or [_setting_name(module)]}
        if wrong is not None and not own:
            choices = _as_held(key, halves["A"].shape, choices, wrong, config)
        if module.endswith(ATTENTION_OUTPUT):
            _refuse_unknown_output(spec, key, config)
            choices = {name: replace(own, scale=2 * own.scale) for name, own in choices.items()}
        factors[key] = _one(spec, key, "parameter" if own else kind, halves, magnitude, choices)
    if found.magnitudes:
        module = next(iter(found.magnitudes))
        raise AdapterError(
            f"{shown(spec)}: module {quote(module)} has a lora_magnitude_vector alone, expected "
            "lora_A and lora_B beside it. Save the adapter again."
        )
    return factors


def _as_held(
    key: str,
    shape: tuple[int, ...],
    choices: dict[str, Setting],
    wrong: dict[str, str],
    config: Mapping[str, Any],
) -> dict[str, Setting]:
    """Return the settings of a module with the rank that its tensors have; note where they lie."""
    (name, told), *_ = choices.items()
    held = shape[0] if shape else 0
    if told.rank == held or not held:
        return choices
    wrong[key] = f"has factors of rank {held}, but {CONFIG} gives r = {told.rank:g}"
    power = 0.5 if config.get("use_rslora") is True else 1.0  # alpha over the rank, or its root
    return {name: Setting(held, told.scale * (told.rank / held) ** power)}


def _refuse_unknown_output(spec: str, key: str, config: Mapping[str, Any]) -> None:
    """Refuse an attention's output of a PEFT that may count its update otherwise."""
    if peft_version(config) > TWICE:
        raise AdapterError(
            f"{shown(spec)}: module {quote(key)} is the output of a MultiheadAttention, whose "
            f"update PEFT up to 0.21.2 adds twice; whether {quote(config['peft_version'])} does "
            f"is not known. {MERGE}"
        )


def _one(
    spec: str,
    key: str,
    kind: Kind,
    halves: Mapping[str, TensorEntry],
    magnitude: TensorEntry | None,
    choices: Mapping[str, Setting],
) -> LoraFactors:
    first = next(iter(choices.values()))
    made = check_factors(
        spec,
        LoraFactors(
            module=unnested(key),
            kind=kind,
            a=halves["A"],
            b=halves["B"],
            rank=int(first.rank),
            scale=first.scale,
            magnitude=magnitude,
        ),
    )
    held = made.a.shape[0]
    if kind == "parameter":  # the rank times the number of experts
        fitting = {
            name.rpartition(".")[2]: (int(own.rank), own.scale)
            for name, own in choices.items()
            if own.rank == int(own.rank) and held % int(own.rank) == 0
        }
        if fitting:
            rank, scale = next(iter(fitting.values()))
            return replace(made, rank=rank, scale=scale, choices=fitting)
    if first.rank != held:
        raise AdapterError(
            f"{shown(spec)}: module {quote(key)} has factors of rank {held}, but {CONFIG} gives "
            f"r = {first.rank:g}, so its scale is unknown. Give the config saved with these "
            "weights."
        )
    return made


def _setting_names(parameters: Mapping[str, list[str]]) -> Iterable[str]:
    for module, own in parameters.items():
        yield from own or [_setting_name(module)]


def _setting_name(module: str) -> str:
    """Return the name under which PEFT looks up a module's settings."""
    return WRAPPERS.sub("", module.removesuffix(ATTENTION_OUTPUT))


def _parameters(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, list[str]]:
    """Return the bare parameters of each module that `target_parameters` may mean.

    Of one that `target_modules` names PEFT takes the weight and no parameter, though a
    parameter's name without its module, `down_proj`, might be inside any.
    """
    targets: dict[str, list[str]] = {}  # parameters by the end of their module's name
    for target in texts(config, "target_parameters"):
        inside, _, leaf = target.rpartition(".")
        targets.setdefault(inside, []).append(leaf)
    plains = {module: unnested(module) for module in modules}
    linear = targeted(config, [*plains.values()]) if targets else set()
    found: dict[str, list[str]] = {}
    for module, plain in plains.items():
        own = [*targets.get("", ())]
        for end in endings(plain):
            own += targets.get(end, ())
        meant = dict.fromkeys(() if plain in linear else own)
        found[module] = [f"{plain}.{leaf}" for leaf in meant]
    return found
