"""Numbers that settings of other methods than LoRA give, against the shapes that they fix."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from spectra.checkpoint.adapter.patterns import FORM, first_fits
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.checkpoint.adapter.updates.update import Sizes

WEIGHT = "weight"
"""Among the shapes: that of the base's matrix, rows and columns, where it is known."""

Told = Mapping[str, Any]
Held = Callable[[Sizes, float, Told], float]
"""What the tensors of a module have of a number, beside all settings; that number itself where they
leave it open. Raises KeyError or IndexError where they have no such tensor."""


class Number(NamedTuple):
    """A setting that tensors show."""

    setting: str
    held: Held
    pattern: str = ""  # the setting that gives other numbers to some modules
    what: str = "tensors for {setting} ="  # that they have
    form: str = FORM  # where a pattern fits
    open: bool = False  # at 0 another setting tells it
    usual: float | None = None  # where the settings hold null, or nothing


def _rank(*parts: str, axis: int = 0, pattern: str = "") -> Number:
    """Return r as a size of the first of these parts that is there."""
    return Number("r", _size(*parts, axis=axis), pattern, "factors of rank")


def _count(part: str) -> Held:
    return lambda sizes, *_: sum(name.startswith(part) for name in sizes)


def _size(*parts: str, axis: int = 0) -> Held:
    return lambda sizes, told, _: next((sizes[part][axis] for part in parts if part in sizes), told)


def _oft_size(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    _, size = _oft_blocks(sizes)
    return told if _near(_oft_inputs(sizes), told) == size else size


def _oft_count(sizes: Sizes, told: float, config: Told) -> float:
    if config.get("block_share") and WEIGHT not in sizes:
        return told
    inputs, (_, size) = _oft_inputs(sizes), _oft_blocks(sizes)
    return told if _near(inputs, told) == inputs // size else inputs // size


def _oft_shared(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    return told and _oft_blocks(sizes)[0] == 1  # one that all share, or of a module that has one


def _oft_blocks(sizes: Sizes) -> tuple[int, int]:
    blocks, count = sizes.get("oft_R.weight") or sizes["oft_embedding_R.weight"]
    return blocks, round((1 + (1 + 8 * count) ** 0.5) / 2)


def _oft_inputs(sizes: Sizes) -> int:
    """Return how many inputs are turned; the fewest of one block that all may share.

    Without the base these are not known: a size that does not go with the fewest goes with none.
    """
    blocks, size = _oft_blocks(sizes)
    return sizes[WEIGHT][1] if blocks == 1 and WEIGHT in sizes else blocks * size


def _near(whole: int, told: float) -> float:
    """Return the nearest number that divides the inputs, the lower of two, as PEFT takes it."""
    if told >= whole:
        return whole
    higher = lower = max(int(told), 1)
    while whole % higher:
        higher += 1
    while whole % lower:
        lower -= 1
    return lower if told - lower <= higher - told else higher


def _butterflies(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    factors = sizes["boft_R"][0]
    return told if factors == 1 else factors  # without its CUDA extension PEFT makes one


def _miss(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    (block,) = (shape for name, shape in sizes.items() if name.endswith("_block"))
    return block[-1] if len(block) == 3 else block[0]


def _mini(sizes: Sizes, told: float, config: Told) -> float:
    return sizes["miss_block"][1] if config.get("init_weights") == "mini" else told


def _tiny(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    rank, cols = sizes["tinylora_A"]
    most = min(cols, sizes["tinylora_B"][0])
    return told if rank == min(told, most) else rank


def _deft(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    rows, rank = sizes["deft_P"]
    return told if rank == min(told, rows) else rank  # PEFT takes no more than there are outputs


def _hira(sizes: Sizes, told: float, config: Told) -> float:
    """The pattern's, or that of all modules: PEFT reads the pattern, and starts with the latter."""
    rank: int = (sizes.get("hira_A") or sizes["hira_embedding_A"])[0]
    return told if rank == config.get("r") else rank


def _ada(sizes: Sizes, told: float, config: Told) -> float:
    return told if config.get("rank_pattern") else sizes["lora_A"][0]


def _waves(sizes: Sizes, told: float, config: Told) -> float:
    return told if config.get("proportional_parameters") else sizes["waveft_spectrum"][0]


def _osf(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    """The directions of the base that are kept, as a number or a share: all but those stored."""
    (rows, stored), cols = sizes["osf_svd_params.U_low"], sizes["osf_svd_params.V_low"][1]
    most = min(rows, cols)
    wanted = int(most * told) if isinstance(told, float) and 0 < told <= 1 else int(told)
    held = most - stored
    return told if held == max(min(most, wanted), 0) else held


def _shira(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    """As many values as a LoRA of rank r on the same matrix has."""
    return prod(sizes["shira_weight"]) / sum(sizes[WEIGHT]) if WEIGHT in sizes else told


def _sparse(sizes: Sizes, told: float, config: Told) -> float:  # noqa: ARG001 - as all
    if WEIGHT not in sizes:
        return told
    whole, count = prod(sizes[WEIGHT]), prod(sizes["supertuning_values"])
    return told if count == int(whole * (1 - told)) else 1 - count / whole


_FREQUENCIES = "n_frequency_pattern"
_INSIDE = r"\A(?:.*\.{}$)"
"""Where FourierFT and C3A let a pattern fit: behind a dot, so that a model's own layer has but its
name."""

_BANK = (Number("num_vectors", _size("vblora_vector_bank")),
         Number("vector_length", _size("vblora_vector_bank", axis=1)))  # fmt: skip

HELD: Mapping[str, Sequence[Number]] = {
    "ADALORA": (Number("init_r", _ada, what="factors of rank"),),
    "LOHA": (_rank("hada_w1_b", pattern="rank_pattern"),),
    "LOKR": (  # whole factors have none
        Number("r", lambda sizes, told, _: next(
            (sizes[name][0] for name in sorted(sizes) if name.endswith("_b") and sizes[name]), told
        ), "rank_pattern", what="factors of rank"),
    ),
    "VERA": (_rank("vera_lambda_d"),),
    "PVERA": (
        Number("r", lambda sizes, *_: sizes["pvera_lambda_d"][0] / 2, what="factors of rank"),
    ),
    "RANDLORA": (_rank("randlora_lambda"),),
    "VBLORA": (
        _rank("vblora_logits_A", "vblora_logits_A_topk_indices"),
        Number("topk", _size("vblora_logits_A_topk_indices", axis=2)), *_BANK,
    ),
    "UNILORA": (
        _rank("unilora_indices_A"), Number("theta_d_length", _size("unilora_theta_d")),
    ),
    "DELORA": (_rank("delora_A", pattern="rank_pattern"),),
    "GRALORA": (
        _rank("gralora_A", axis=2), Number("gralora_k", _size("gralora_A")),
        Number("hybrid_r", lambda sizes, *_: sizes.get("gralora_A_general.weight", (0,))[0]),
    ),
    "MISS": (Number("r", _miss), Number("mini_r", _mini)),
    "BONE": (Number("r", _miss),),
    "TINYLORA": (
        Number("r", _tiny, what="factors of rank"), Number("u", _size("tinylora_P")),
    ),
    "FOURIERFT": (
        Number("n_frequency", _size("fourierft_spectrum"), _FREQUENCIES, form=_INSIDE),
    ),
    "WAVEFT": (Number("n_frequency", _waves, _FREQUENCIES),),
    "C3A": (
        Number("block_size", _size("c3a_kernel", axis=2), "block_size_pattern", form=_INSIDE),
    ),
    "SHIRA": (Number("r", _shira),),
    "SUPERTUNING": (
        _rank("supertuning_lora_A.weight")._replace(open=True), Number("sparsity", _sparse),
    ),
    "OFT": (
        Number("oft_block_size", _oft_size, open=True), Number("r", _oft_count, open=True),
        Number("block_share", _oft_shared, usual=False),
    ),
    "BOFT": (
        Number("boft_block_size", _size("boft_R", axis=-1), open=True),
        Number("boft_block_num", _size("boft_R", axis=1), open=True),
        Number("boft_n_butterfly_factor", _butterflies),
    ),
    "HRA": (Number("r", _size("hra_u", axis=1)),),
    "HIRA": (Number("r", _hira, "rank_pattern", "factors of rank"),),
    "DEFT": (Number("r", _deft, what="factors of rank"),),
    "GLORA": (_rank(*(f"glora_{side}.Xd" for side in "ABC"), axis=1),),
    "OSF": (Number("effective_rank", _osf, "rank_pattern", form="{}", usual=0.5),),
    "PEANUT": (_rank("peanut_A.weight"), Number("depth", _count("peanut_encoders."))),
}  # fmt: skip
"""By `peft_type`, its settings and what the tensors have of them."""


def form_of(kind: str) -> str:
    """Return where a pattern for ranks fits a name, as `first_fits` has it."""
    return next((one.form for one in HELD.get(kind, ()) if one.pattern == "rank_pattern"), FORM)


def told_of(config: Told, kind: str, modules: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return what the settings give of every number, by module; that of none is not there.

    Raises:
        AdapterError: A pattern for modules is malformed.
    """
    found: dict[str, dict[str, float]] = {module: {} for module in modules}
    for number in HELD.get(kind, ()):
        table = config.get(number.pattern)
        own = table if isinstance(table, dict) else {}
        tables = {number.pattern: [*own]} if own else {}
        fits = first_fits(tables, modules, CONFIG, number.form).get(number.pattern, {})
        for module in modules:
            given = own.get(module, config.get(number.setting))  # a name counts as it is, too
            value = own[fits[module]] if module in fits else given
            value = number.usual if value is None else value
            fits_kind = isinstance(value, bool) == isinstance(number.usual, bool)
            if isinstance(value, int | float) and fits_kind and abs(value) <= 1e9:
                found[module][number.setting] = value
    return found


def contradiction(
    config: Told, kind: str, sizes: Sizes, told: Mapping[str, float]
) -> tuple[str, dict[str, float]]:
    """Say what the settings give otherwise than a module's tensors; empty where nothing.

    Args:
        config: adapter_config.json.
        kind: Its `peft_type`.
        sizes: Shapes of the module's tensors, by PEFT's names.
        told: What the settings give for it, as `told_of` has it.

    Returns:
        A sentence without its subject, and what the tensors have of each of these settings.
    """
    wrong, found = [], {}
    for number in HELD.get(kind, ()):
        value = told.get(number.setting)
        if value is None or (number.open and value <= 0):
            continue
        try:
            held = number.held(sizes, value, config)
        except (KeyError, IndexError, ValueError):  # tensors of other shapes are told elsewhere
            continue
        if held == value:
            continue
        what = number.what.format(setting=number.setting)
        given = f"{number.setting} = {_spelled(value)}"
        if config.get(number.setting) is None and value == number.usual:
            given = f"no {number.setting}, which is half of all"
        wrong.append(f"has {what} {_spelled(held)}, but {CONFIG} gives {given}")
        found[number.setting] = held
    return "; it ".join(wrong), found


def _spelled(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
