"""Stacks of one matrix of each expert, as mlx-lm and GGUF have them: what they are of and called.

In memory gate and up of an expert are one matrix, and PEFT gives them factors together; mlx-lm and
llama.cpp hold each by itself, rows = outputs, and so are its factors: lora_a [experts, r, in] and
lora_b [experts, out, r].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.gguf.codec import gguf_library
from spectra.lowrank.parameters import Matrix, Parameter
from spectra.matrices import View
from spectra.matrices.part import Rows
from spectra.work.planning.stacks import LEAVES, RENAMED

_ROUTED = {
    "block_sparse_moe.switch_mlp": "granitemoe granitemoehybrid minimax mixtral phimoe",
    "feed_forward.switch_mlp": "jamba lfm2_moe",
    "mlp.experts": "afmoe gpt_oss",
    "mlp.switch_mlp": "ernie4_5_moe olmoe qwen2_moe qwen3_moe qwen3_next",
}
_GATED = {
    "mlp.experts": "dots1",
    "mlp.switch_mlp": (
        "deepseek_v2 deepseek_v3 deepseek_v32 exaone_moe glm4_moe glm4_moe_lite mimo_v2_flash"
    ),
}
"""Likewise, of families whose router is no linear layer there, so that it has no LoRA."""

SWITCHES: Final = {
    family: f"model.layers.{{}}.{place}"
    for table in (_ROUTED, _GATED) for place, families in table.items()
    for family in families.split()
}  # fmt: skip
"""Where mlx-lm has the experts of a layer, by family.

Source:
    mlx-lm 0.32.2, the modules that are a `SwitchGLU` in `mlx_lm/models`.
"""

ROUTERS: Final = frozenset(" ".join(_ROUTED.values()).split())


@dataclass(frozen=True, slots=True)
class Share:
    """What of each matrix of a parameter is held by itself; by default all."""

    word: str = ""  # gate, up or down of experts
    rows: Rows | None = None
    module: str = ""  # of a matrix that is no expert's, where it is called otherwise

    def count(self, rows: int) -> int:
        """Return how many of a matrix's rows they are."""
        return rows if self.rows is None else self.rows.count

    def key(self, one: Parameter) -> str:
        """Return what tells it from all others."""
        return one.name if self.rows is None else f"{one.name}[{self.word}]"


def rows_of(
    matrix: Matrix, rows: int, held: Mapping[str, Sequence[View]]
) -> dict[str, Rows | None]:
    """Return which rows of an expert's matrix in memory are its gate, up or down.

    Args:
        matrix: Of a stack.
        rows: It has.
        held: The matrices of each stored tensor.

    Returns:
        By word; None: all. Empty where they cannot be told apart.
    """
    found: dict[str, Rows | None] = {}
    at = 0
    for piece in matrix.pieces:
        views = [view for view in held[piece.entry.name]
                 if matrix.part.expert in (None, view.part.expert)]  # fmt: skip
        alone = len(matrix.pieces) == 1
        if piece.rows is not None or not (alone or len(views) == 1) or (
            matrix.part.transposed and not alone
        ):  # fmt: skip
            return {}
        for view in views:
            word = LEAVES.get(view.role.kind)
            if word is None or word in found:
                return {}
            found[word] = view.part.rows if alone else Rows(1, rows, at, at + view.rows)
            at += view.rows
    return found if at == rows else {}


def shares_of(
    one: Parameter, held: Mapping[str, Sequence[View]]
) -> dict[str, Rows | None]:  # fmt: skip
    """Return the same of all experts of a stack; empty where they differ."""
    found = [rows_of(matrix, one.shape[0], held) for matrix in one.matrices]
    return found[0] if found and all(own == found[0] for own in found) else {}


def row_of(one: Parameter, expert: int, word: str, rows: Rows | None) -> str:
    """Return what the row of an expert's gate, up or down is called."""
    if rows is None:
        return one.row(expert)
    return f"{one.name}[expert={expert},{word}]"


def switched(family: object, layer: int, word: str) -> str:
    """Return what mlx-lm calls a stack; empty where its model is not known."""
    place = SWITCHES.get(str(family), "")
    return f"{place.format(layer)}.{word}_proj" if place else ""


def router(base: Checkpoint, module: str) -> str:
    """Return what mlx-lm calls a router; empty where it has no LoRA there.

    Args:
        base: The model.
        module: What it is called in the file, as published or as in memory.
    """
    family = str(base.config.get("model_type"))
    if family not in ROUTERS:
        return ""
    return module.replace(*RENAMED[::-1]) if RENAMED[0] in SWITCHES[family] else module


def exps(architecture: str, layer: int, word: str) -> str:
    """Return what GGUF calls a stack; empty where the architecture has none.

    Args:
        architecture: GGUF's word.
        layer: Of the model.
        word: gate, up or down.
    """
    library = gguf_library()
    words = {own: key for key, own in library.MODEL_ARCH_NAMES.items()}
    stem = f"blk.{{bid}}.ffn_{word}_exps"
    known = {library.TENSOR_NAMES[one] for one in library.MODEL_TENSORS[words[architecture]]}
    return f"blk.{layer}.ffn_{word}_exps.weight" if stem in known else ""
