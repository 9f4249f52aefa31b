"""The installed transformers: a model without weights, and what it calls what a file holds."""

import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spectra.architectures.renaming import Fusion
from spectra.architectures.table import USUAL, Layer

_COUNT = re.compile(r".*(?:layers?|blocks|depths?)")
"""Keys of a config that say how many layers are built one after the other."""

__all__ = ["USUAL", "Installed", "described", "installed", "layers_of"]


@dataclass(frozen=True, slots=True)
class Installed:
    """A model as the installed transformers builds it, on the meta device."""

    version: str
    name: str  # of the class
    parameters: Mapping[str, tuple[int, ...]]  # shapes by name
    first: Mapping[str, str]  # by each name of a parameter, that of several which comes first
    names: frozenset[str]  # of parameters, and of what else is stored
    layers: Mapping[str, Layer]  # by name of the module
    core: Any = field(repr=False)  # transformers.core_model_loading
    renamings: tuple[Any, ...] = field(repr=False)
    converters: tuple[Any, ...] = field(repr=False)
    prefix: str = ""
    embeds: bool = True  # it tells its embedding, which PEFT asks for where weights are tied

    def renamed(self, name: str) -> tuple[str, Fusion | None, int]:
        """Return the first parameter that a tensor becomes, how, and as which source.

        Source:
            transformers 5.23, `core_model_loading.convert_and_load_state_dict_in_model`.
        """
        rename, known = self.core.rename_source_key, dict.fromkeys(self.names, True)
        new, pattern = rename(name, self.renamings, self.converters, self.prefix, known)
        if new not in known and name in known:
            new, pattern = rename(name, [], [], self.prefix, known)
        if pattern is None:
            return new, None, 0
        # The last of those with the pattern, as transformers takes it.
        found = next(one for one in reversed(self.converters) if pattern in one.source_patterns)
        fusion = Fusion(
            tuple(found.target_patterns),
            tuple(_operation(one) for one in found.operations),
            len(found.source_patterns),
        )
        return new, fusion, found.source_patterns.index(pattern)


def installed(config: Mapping[str, Any], tensors: int) -> Installed | None:
    """Build the model of a config.json without weights.

    Args:
        config: As it is stored.
        tensors: How many the checkpoint holds: a model of far more layers is not built.

    Returns:
        None where transformers is not there, is older than its table of conversions, does
        not know the family or the class, or cannot build it here.
    """
    if not _modest(config, tensors):
        return None
    try:
        core = importlib.import_module("transformers.core_model_loading")
        mapping = importlib.import_module("transformers.conversion_mapping")
        auto = importlib.import_module("transformers.models.auto.configuration_auto")
        hf = importlib.import_module("transformers")
    except ImportError:
        return None
    with _silent(hf):
        try:
            kind = _class_of(config, hf, auto)
            if kind is None:
                return None
            model = _built(kind, config, auto)
            moves = mapping.get_model_conversion_mapping(model)
        except Exception:  # noqa: BLE001 - whatever a foreign config makes of a foreign library
            return None
    named = dict(model.named_parameters(remove_duplicate=False))
    by_first = {id(value): name for name, value in model.named_parameters()}
    return Installed(
        hf.__version__,
        kind.__name__,
        {name: tuple(value.shape) for name, value in named.items()},
        {name: by_first[id(value)] for name, value in named.items()},
        frozenset(model.state_dict()),
        layers_of(model),
        core,
        tuple(one for one in moves if isinstance(one, core.WeightRenaming)),
        tuple(one for one in moves if isinstance(one, core.WeightConverter)),
        model.base_model_prefix,
        _embeds(model),
    )


def described(move: Any) -> list[Any]:  # noqa: ANN401 - a WeightTransform
    """Return one of transformers' renamings or conversions as JSON.

    A pattern, what takes the place of what it finds, and operations; `?` and the name of the
    class where it is of a kind of its own.
    """
    plain = {"WeightRenaming", "PrefixChange", "WeightConverter"}
    operations = [_operation(one) for one in getattr(move, "operations", ())]
    if type(move).__name__ not in plain:
        operations = [f"? {type(move).__name__}"]
    return [move.compiled_sources.pattern, list(move.target_patterns), operations]


def _operation(one: Any) -> str:  # noqa: ANN401 - a ConversionOps
    axes = [value for key, value in vars(one).items() if key in {"dim", "dim0", "dim1"}]
    shards = getattr(one, "num_shards_attribute", None)
    return " ".join([type(one).__name__, *map(str, axes), *([str(shards)] if shards else [])])


def _class_of(config: Mapping[str, Any], hf: Any, auto: Any) -> Any:  # noqa: ANN401 - modules
    """Return the class that config.json names, or the bare one of its family."""
    family, named = config.get("model_type"), config.get("architectures")
    if not isinstance(family, str) or family not in auto.CONFIG_MAPPING_NAMES:
        return None
    names = importlib.import_module("transformers.models.auto.modeling_auto").MODEL_MAPPING_NAMES
    wanted = named[0] if isinstance(named, list) and named else names.get(family)
    wanted = wanted[0] if isinstance(wanted, (list, tuple)) else wanted
    if not isinstance(wanted, str):
        return None
    # Classes of parts are not exported; they lie beside their family's others.
    home = auto.CONFIG_MAPPING[family].__module__.replace("configuration_", "modeling_")
    kind = getattr(hf, wanted, None) or getattr(importlib.import_module(home), wanted, None)
    return kind if isinstance(kind, type) and issubclass(kind, hf.PreTrainedModel) else None


def _built(kind: Any, config: Mapping[str, Any], auto: Any) -> Any:  # noqa: ANN401 - classes
    torch = importlib.import_module("torch")
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    settings = auto.CONFIG_MAPPING[config["model_type"]].from_dict(plain)
    with torch.device("meta"):
        return kind(settings)


def layers_of(model: Any) -> dict[str, Layer]:  # noqa: ANN401 - a torch module
    """Return every module by the class that PEFT goes by; the class's own name for others."""
    nn = importlib.import_module("torch").nn
    known = (nn.MultiheadAttention, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    found = {}
    for name, module in model.named_modules():
        kind = next((one.__name__ for one in known if isinstance(module, one)), "")
        groups = getattr(module, "groups", 1)
        found[name] = Layer(kind or type(module).__name__, groups if type(groups) is int else 1)
    return found


def _embeds(model: Any) -> bool:  # noqa: ANN401 - a PreTrainedModel
    """Say whether PEFT is told the embedding where it asks for it."""
    apart = getattr(model.config, "tie_word_embeddings", True) is False
    if apart or not isinstance(getattr(model, "_tied_weights_keys", None), dict):
        return True
    try:
        return model.get_input_embeddings() is not None
    except NotImplementedError:
        return False


def _modest(config: Mapping[str, Any], tensors: int) -> bool:
    """Say whether no count of layers in a config is out of proportion to the checkpoint."""
    for key, value in config.items():
        if isinstance(value, Mapping) and not _modest(value, tensors):
            return False
        counts = value if isinstance(value, list) else [value]
        if _COUNT.fullmatch(key) and any(
            isinstance(count, int) and count > max(512, 8 * tensors) for count in counts
        ):
            return False
    return True


@contextmanager
def _silent(hf: Any) -> Iterator[None]:  # noqa: ANN401 - a module
    log = hf.utils.logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(before)
