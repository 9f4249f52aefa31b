"""The methods of PEFT that are read beside LoRA: what each stores, and which settings count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from spectra.checkpoint.adapter.updates.update import Form, Shape, Sizes, Told

Size = Callable[[Sizes, Told], Shape]


@dataclass(frozen=True, slots=True)
class Method:
    """One method."""

    word: str  # as its authors call it
    make: str  # the function that makes an update of it
    form: Form
    parts: str  # a pattern of what a module's tensors are called, behind its name
    shape: Size  # of the update, from shapes of tensors
    rank: Callable[[Sizes], int] = lambda _: 0  # of the update, at most; 0: full
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that count, and what each is where it is not told."""
    idle: tuple[str, ...] = ()  # settings that change no values once it is trained
    shared: str = ""  # a pattern of tensors that all modules share
    needs: tuple[str, ...] = ()  # of these parts each, where the pattern alone does not tell
    scaled: bool = False  # by alpha / r, each module's
    bias: Callable[[Told], bool] = lambda _: False  # whether biases of its modules change too
    refused: Callable[[Sizes, Told], str] = lambda _sizes, _told: ""  # why a module is not read


def _hada(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    if "hada_t1" in sizes:
        return sizes["hada_w1_a"][1], sizes["hada_w1_b"][1] * prod(sizes["hada_t1"][2:])
    return sizes["hada_w1_a"][0], sizes["hada_w1_b"][1]


def _hada_rank(sizes: Sizes) -> int:
    return sizes["hada_w1_b"][0] * sizes["hada_w2_b"][0]


def _thin(sizes: Sizes, number: int) -> tuple[int, int, int]:
    """Return rows, rank and columns of one of LoKr's two matrices."""
    whole, core = sizes.get(f"lokr_w{number}"), sizes.get(f"lokr_t{number}")
    if whole is not None:
        rows, cols = whole[0], prod(whole[1:])
        return rows, min(rows, cols), cols
    up, down = sizes[f"lokr_w{number}_a"], sizes[f"lokr_w{number}_b"]
    if core is not None:
        return up[1], up[0], down[1] * prod(core[2:])
    return up[0], up[1], down[1]


def _lokr(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    one, two = _thin(sizes, 1), _thin(sizes, 2)
    return one[0] * two[0], one[2] * two[2]


def _lokr_rank(sizes: Sizes) -> int:
    return _thin(sizes, 1)[1] * _thin(sizes, 2)[1]


def _lokr_refused(sizes: Sizes, told: Told) -> str:  # noqa: ARG001 - as all
    if len(sizes.get("lokr_w2", ())) == 3:
        return "a Conv1d's lokr_w2 that is stored whole, which PEFT and LyCORIS multiply unlike"
    return ""


def _vblora(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    width = sizes["vblora_vector_bank"][1]
    tiles = [
        sizes.get(f"vblora_logits_{side}") or sizes[f"vblora_logits_{side}_topk_weights"]
        for side in "BA"
    ]
    return tiles[0][0] * width, tiles[1][1] * width


def _vblora_rank(sizes: Sizes) -> int:
    return (sizes.get("vblora_logits_A") or sizes["vblora_logits_A_topk_weights"])[0]


def _gralora_rank(sizes: Sizes) -> int:
    count, _, rank = sizes["gralora_A"]
    return count * rank + sizes.get("gralora_A_general.weight", (0,))[0]


def _glora(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    rows, cols = 0, 0
    for side in "AB":
        rows = sizes.get(f"glora_{side}.Xd", (rows,))[0] or rows
        column = sizes.get(f"glora_{side}.X", ())
        rows = column[0] if len(column) == 2 else rows
        cols = sizes.get(f"glora_{side}.Xu", (0, cols))[1]
    return rows, cols


def _rows(name: str, axis: int = 0, times: int = 1) -> Size:
    return lambda sizes, _: (sizes[name][axis] * times, 0)


def _both(rows: str, cols: str) -> Size:
    return lambda sizes, _: (sizes[rows][0], prod(sizes[cols][1:]))


def _unknown(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    return 0, 0


def _oft(sizes: Sizes, told: Told) -> Shape:
    blocks, count = sizes.get("oft_R.weight") or sizes["oft_embedding_R.weight"]
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    return 0, 0 if told["block_share"] else blocks * size


def _boft(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    _, blocks, size, _ = sizes["boft_R"]
    return prod(sizes["boft_s"]), blocks * size


def _miss(sizes: Sizes, told: Told) -> Shape:
    (block,) = sizes.values()
    if len(block) == 3:  # "bat"
        return block[0] * block[1], 0
    return 0 if told["init_weights"] == "mini" else block[1], 0


def _ia3(sizes: Sizes, told: Told) -> Shape:
    return (0, 0) if told["feedforward"] else (prod(sizes["ia3_l"]), 0)


def _road(sizes: Sizes, told: Told) -> Shape:
    count = sizes["road_theta"][0]
    return {"road_1": 2 * count, "road_2": count, "road_4": count // 2}[told["variant"]], 0


def _hira(sizes: Sizes, told: Told) -> Shape:  # noqa: ARG001 - as all
    if "hira_embedding_A" in sizes:
        return sizes["hira_embedding_A"][1], sizes["hira_embedding_B"][0]
    return sizes["hira_B"][0], prod(sizes["hira_A"][1:])


def _peanut(sizes: Sizes, told: Told) -> Shape:
    layers = range(int(told["depth"]))
    if not all(f"peanut_{side}coders.{n}.weight" in sizes for side in ("en", "de") for n in layers):
        raise KeyError
    return sizes["peanut_A.weight"][1], 0


ACTIVATIONS = ("relu", "silu", "swish", "gelu", "tanh", "sigmoid", "leaky_relu")
LYCORIS = ("rank_dropout_scale", "use_effective_conv2d", "decompose_both", "decompose_factor")

METHODS: Mapping[str, Method] = {
    "ADALORA": Method(
        "AdaLoRA", "adalora", "products", r"lora_[ABE]", _both("lora_B", "lora_A"),
        lambda sizes: sizes["lora_A"][0], {"init_r": 12, "lora_alpha": 8},
        ("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
         "rank_pattern", "init_lora_weights", "use_rslora", "use_dora"),
        needs=("lora_A", "lora_B", "lora_E"),
    ),
    "LOHA": Method(
        "LoHa", "loha", "products", r"hada_(?:w[12]_[ab]|t[12])", _hada, _hada_rank,
        idle=LYCORIS, needs=("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), scaled=True,
    ),
    "LOKR": Method(
        "LoKr", "lokr", "products", r"lokr_(?:w[12](?:_[ab])?|t2)", _lokr, _lokr_rank,
        idle=LYCORIS, scaled=True, refused=_lokr_refused,
    ),
    "VERA": Method(
        "VeRA", "vera", "products", r"vera_lambda_[bd]", _rows("vera_lambda_b"),
        lambda sizes: sizes["vera_lambda_d"][0], {"projection_prng_key": 0},
        ("d_initial", "save_projection"), r"vera_[AB]",
        ("vera_lambda_b", "vera_lambda_d"),
    ),
    "PVERA": Method(
        "PVeRA", "vera", "products", r"pvera_lambda_[bd]", _rows("pvera_lambda_b"),
        lambda sizes: sizes["pvera_lambda_d"][0] // 2, {"projection_prng_key": 0},
        ("d_initial", "save_projection", "sample_at_inference"), r"pvera_[AB]",
        ("pvera_lambda_b", "pvera_lambda_d"),
    ),
    "RANDLORA": Method(
        "RandLoRA", "randlora", "products", r"randlora_(?:lambda|gamma|[AB])", _unknown,
        lambda sizes: prod(sizes["randlora_lambda"]),
        {"projection_prng_key": 0, "randlora_alpha": 640, "sparse": False, "very_sparse": False},
        ("save_projection",), r"randlora_[AB]", ("randlora_lambda", "randlora_gamma"),
    ),
    "VBLORA": Method(
        "VB-LoRA", "vblora", "products", r"vblora_logits_[AB](?:_topk_(?:indices|weights))?",
        _vblora, _vblora_rank, {"topk": 2},
        ("num_vectors", "vector_length", "init_vector_bank_bound", "init_logits_std",
         "save_only_topk_weights"), r"vblora_vector_bank", ("vblora_vector_bank",),
    ),
    "UNILORA": Method(
        "Uni-LoRA", "unilora", "products", r"unilora_(?:indices|scales)_[AB]",
        _both("unilora_indices_B", "unilora_indices_A"),
        lambda sizes: sizes["unilora_indices_A"][0], {},
        ("theta_d_length", "init_theta_d_bound", "proj_seed", "save_indices"), r"unilora_theta_d",
        ("unilora_theta_d",),
    ),
    "DELORA": Method(
        "DeLoRA", "delora", "products", r"delora_(?:[AB]|lambda|w_norm)",
        _both("delora_B", "delora_A"), lambda sizes: sizes["delora_A"][0], {},
        ("delora_lambda", "rank_pattern", "lambda_pattern"),
        needs=("delora_A", "delora_B", "delora_lambda", "delora_w_norm"),
    ),
    "GRALORA": Method(
        "GraLoRA", "gralora", "products", r"gralora_[AB](?:_general\.weight)?",
        lambda sizes, _: (
            sizes["gralora_B"][0] * sizes["gralora_B"][2],
            sizes["gralora_A"][0] * sizes["gralora_A"][1],
        ),
        _gralora_rank, {"alpha": 64, "hybrid_r": 0}, ("gralora_k",),
        needs=("gralora_A", "gralora_B"),
    ),
    "MISS": Method(
        "MiSS", "miss", "products", r"miss_block", _miss,
        lambda sizes: sizes["miss_block"][0], {"init_weights": True}, ("mini_r",),
    ),
    "BONE": Method(
        "Bone", "miss", "products", r"bone_block", _miss,
        lambda sizes: sizes["bone_block"][0], {"init_weights": True},
    ),
    "TINYLORA": Method(
        "TinyLoRA", "tinylora", "products", r"tinylora_[ABP]", _both("tinylora_B", "tinylora_A"),
        lambda sizes: sizes["tinylora_A"][0], {},
        ("u", "weight_tying", "projection_seed", "save_projection", "init_v_bound", "ntie"),
        r"tinylora_v(?:\.\d+)?", ("tinylora_A", "tinylora_B", "tinylora_P", "tinylora_v.0"),
        refused=lambda sizes, _: (
            "several shared vectors, and not which of them is its own"
            if "tinylora_v.1" in sizes else ""
        ),
    ),
    "FOURIERFT": Method(
        "FourierFT", "fourierft", "wholes", r"fourierft_spectrum", _unknown,
        settings={"scaling": 150.0, "random_loc_seed": 777},
        idle=("n_frequency", "n_frequency_pattern"),
    ),
    "WAVEFT": Method(
        "WaveFT", "waveft", "wholes", r"waveft_spectrum", _unknown,
        settings={"scaling": 25.0, "random_loc_seed": 777, "use_idwt": True,
                  "wavelet_family": "db1"},
        idle=("n_frequency", "n_frequency_pattern", "proportional_parameters"),
        refused=lambda _, told: (
            f"the wavelet {told['wavelet_family']}, of which db1 alone is read"
            if told["use_idwt"] and told["wavelet_family"] not in ("db1", "haar") else ""
        ),
    ),
    "C3A": Method(
        "C3A", "c3a", "wholes", r"c3a_kernel",
        lambda sizes, _: tuple(n * sizes["c3a_kernel"][2] for n in sizes["c3a_kernel"][:2]),  # type: ignore[arg-type,return-value]
        idle=("block_size", "block_size_pattern"),
    ),
    "SHIRA": Method(
        "SHiRA", "shira", "wholes", r"shira_(?:weight|indices)", _unknown,
        idle=("mask_type", "random_seed"), needs=("shira_weight", "shira_indices"),
    ),
    "SUPERTUNING": Method(
        "SuperTuning", "supertuning", "wholes",
        r"supertuning_(?:values|indices|lora_[AB]\.weight)", _unknown, settings={"lora_alpha": 8},
        idle=("sparsity", "select_top", "save_precomputed_indices"),
        needs=("supertuning_values", "supertuning_indices"),
    ),
    "OFT": Method(
        "OFT", "oft", "turns", r"oft_(?:embedding_)?R\.weight", _oft,
        settings={"coft": False, "eps": 6e-5, "block_share": False, "use_cayley_neumann": True,
                  "num_cayley_neumann_terms": 5},
        idle=("oft_block_size",),
    ),
    "BOFT": Method(
        "BOFT", "boft", "turns", r"boft_[Rs]", _boft,
        idle=("boft_block_size", "boft_block_num", "boft_n_butterfly_factor"),
        needs=("boft_R", "boft_s"),
    ),
    "HRA": Method(
        "HRA", "hra", "turns", r"hra_u", lambda sizes, _: (0, sizes["hra_u"][0]),
        settings={"apply_GS": False}, idle=("rank_pattern",),
    ),
    "IA3": Method(
        "IA3", "ia3", "turns", r"ia3_l", _ia3, idle=("feedforward_modules", "init_ia3_weights"),
        bias=lambda told: not told["feedforward"],
    ),
    "ROAD": Method(
        "RoAd", "road", "turns", r"road_(?:theta|alpha)", _road,
        settings={"variant": "road_1", "group_size": 64}, needs=("road_theta", "road_alpha"),
        bias=lambda _: True,
    ),
    "HIRA": Method(
        "HiRA", "hira", "turns", r"hira_(?:embedding_)?[AB]", _hira, idle=("rank_pattern",),
    ),
    "DEFT": Method(
        "DEFT", "deft", "turns", r"deft_[PR]", lambda sizes, _: (sizes["deft_P"][0], 0),
        settings={"decomposition_method": "relu", "alpha": None, "para": False},
        idle=("init_scale",), needs=("deft_P",),
    ),
    "GLORA": Method(
        "GLoRA", "glora", "turns", r"glora_[A-E]\.(?:Xd|Xu|X|zeros)", _glora,
        idle=("config_A_B", "config_C", "config_D_E"), bias=lambda _: True,
    ),
    "OSF": Method(
        "OSF", "osf", "turns", r"osf_svd_params\.[USV]_low|_osf_[USV]_low_init|_osf_[UV]_high",
        _both("osf_svd_params.U_low", "osf_svd_params.V_low"),
        idle=("effective_rank", "target_svd_config", "rank_pattern"),
        needs=tuple(f"osf_svd_params.{side}_low" for side in "USV"),
    ),
    "PEANUT": Method(
        "PEANuT", "peanut", "turns", r"peanut_(?:[AB]|(?:en|de)coders\.\d+)\.weight", _peanut,
        settings={"depth": 0, "scaling": 1.0, "act_fn": "relu"},
        needs=("peanut_A.weight", "peanut_B.weight"),
        refused=lambda _, told: (
            "" if told["act_fn"] in ACTIVATIONS else f"the activation {told['act_fn']}"
        ),
    ),
}  # fmt: skip
"""By `peft_type`."""

BAT = Method(
    'Bone ("bat")', "bat", "turns", "", _miss, settings={"init_weights": True},
)  # fmt: skip
"""What MiSS and Bone are where their blocks have three axes."""


FROM_BASE = (
    "starts from singular vectors of the base that it does not store, whose signs differ from "
    "machine to machine"
)
BY_INPUT = "adds what hangs on the input, which no weight is equal to"
NO_WEIGHT = "changes no weight: it adds inputs to the model"
NOT_READ: Mapping[str, str] = {
    "PSOFT": FROM_BASE, "ADAMSS": FROM_BASE, "FROD": FROM_BASE,
    "LILY": BY_INPUT, "XLORA": BY_INPUT, "POLY": BY_INPUT, "SHADOW": BY_INPUT,
    "ADAPTION_PROMPT": NO_WEIGHT, "PROMPT_TUNING": NO_WEIGHT, "P_TUNING": NO_WEIGHT,
    "PREFIX_TUNING": NO_WEIGHT, "MULTITASK_PROMPT_TUNING": NO_WEIGHT, "CPT": NO_WEIGHT,
    "CARTRIDGE": NO_WEIGHT,
    "BEFT": "changes biases alone, which are not analysed",
}  # fmt: skip
"""Methods of PEFT that are no change of weights that the files tell, and why."""
