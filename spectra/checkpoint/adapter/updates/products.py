"""Updates that are a product of two thin matrices by the way they are stored: LoHa, VeRA, MiSS.

Each function takes a module's stored tensors by PEFT's names, and what its settings and the base
say, and returns left [rows, k] and right [k, cols] of `W' = W + left @ right`, rows = outputs.

Source:
    `get_delta_weight` of PEFT 0.21, method by method; the papers are named at each.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jaxtyping import Float

from spectra.deferred import Tensor, torch

Parts = Mapping[str, Tensor]
Told = Mapping[str, Any]
Factors = tuple[Float[Tensor, "rows k"], Float[Tensor, "k cols"]]


def adalora(t: Parts, told: Told) -> Factors:
    """Return B and E A of AdaLoRA, with the scale that it had before ranks were taken away.

    Source:
        Zhang et al. 2023, arXiv:2303.10512.
    """
    rank = float(told["init_r"])
    alpha = told["lora_alpha"] if told["lora_alpha"] > 0 else rank
    return t["lora_B"] * (alpha / (rank + 1e-5)), t["lora_A"] * t["lora_E"]


def loha(t: Parts, told: Told) -> Factors:
    """Return the factors of (B1 A1) * (B2 A2), entry by entry: row by row and column by column.

    Source:
        Hyeon-Woo et al. 2022, arXiv:2108.06098, proposition 1 (FedPara); Yeh et al. 2023,
        arXiv:2309.14859 (LoHa).
    """
    outer, inner = zip(*(_hada(t, number) for number in (1, 2)), strict=True)
    left = (outer[0][:, :, None] * outer[1][:, None]).flatten(1)
    right = (inner[0][:, None] * inner[1][None]).flatten(0, 1)
    return left * told["scale"], right


def _hada(t: Parts, number: int) -> Factors:
    down, up = t[f"hada_w{number}_b"], t[f"hada_w{number}_a"]
    core = t.get(f"hada_t{number}")
    if core is None:
        return up, down
    return up.mT, torch.einsum("ij...,jc->ic...", core, down).flatten(1)


def lokr(t: Parts, told: Told) -> Factors:
    """Return the factors of w1 x w2 (Kronecker): those of w1 times those of w2.

    Source:
        Edalati et al. 2022, arXiv:2212.10650 (KronA); Yeh et al. 2023, arXiv:2309.14859 (LoKr).
    """
    (left, right), (outer, inner) = _thin(t, "1"), _thin(t, "2")
    return _kron(left, outer) * told["scale"], _kron(right, inner)


def _kron(one: Tensor, other: Tensor) -> Tensor:
    """Return the Kronecker product; torch's own wants other strides than a turned matrix has."""
    found = one[:, None, :, None] * other[None, :, None]
    return found.flatten(2).flatten(0, 1)


def _thin(t: Parts, number: str) -> Factors:
    """Return the factors of one of both; of one stored whole itself and ones."""
    whole, core = t.get(f"lokr_w{number}"), t.get(f"lokr_t{number}")
    if whole is not None:
        matrix = whole.flatten(1)
        rows, cols = matrix.shape
        one = torch.eye(min(rows, cols), dtype=matrix.dtype)
        return (one, matrix) if rows < cols else (matrix, one)
    up, down = t[f"lokr_w{number}_a"], t[f"lokr_w{number}_b"]
    if core is None:
        return up, down
    return up.mT, torch.einsum("ij...,jc->ic...", core, down).flatten(1)


def vera(t: Parts, told: Told) -> Factors:
    """Return diag(b) B and diag(d) A, whose B and A all modules share.

    Source:
        Kopiczko et al. 2024, arXiv:2310.11454 (VeRA). Of PVeRA, whose d is drawn at random in
        training, the mean counts, as PEFT merges it.
    """
    prefix = "pvera" if "pvera_lambda_d" in t else "vera"
    down = t[f"{prefix}_lambda_d"]
    a, b = t.get(f"{prefix}_A"), t.get(f"{prefix}_B")
    if a is None or b is None:
        a, b = _kaiming(told["projection_prng_key"], len(down), *told["largest"])
    kept = len(down) // 2 if prefix == "pvera" else len(down)
    right = down[:kept, None] * a[:kept, : told["cols"]]
    return t[f"{prefix}_lambda_b"][:, None] * b[: told["rows"], :kept], right


@lru_cache(maxsize=1)
def _kaiming(key: int, rank: int, rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Return VeRA's shared A and B, drawn as PEFT draws them."""
    generator = torch.Generator().manual_seed(key)
    found = []
    for shape in ((rank, cols), (rows, rank)):
        bound = math.sqrt(3.0) * math.sqrt(2.0) / math.sqrt(shape[1])
        found.append(torch.empty(shape).uniform_(-bound, bound, generator=generator))
    return found[0], found[1]


def randlora(t: Parts, told: Told) -> Factors:
    """Return all bases B_j side by side, and diag(lambda_j) A diag(gamma_j) below each other.

    Source:
        Albert et al. 2025, arXiv:2502.00987 (RandLoRA): of full rank.
    """
    rows, cols = told["rows"], told["cols"]
    short, long = sorted((rows, cols))
    weights, gains = t["randlora_lambda"], t["randlora_gamma"]
    rank, count = weights.shape
    a, b = t.get("randlora_A"), t.get("randlora_B")
    if a is None or b is None:
        sparse = 2 * bool(told["very_sparse"]) or bool(told["sparse"])
        sizes = sorted(told["largest"])
        a, b = _random_bases(told["projection_prng_key"], rank, sizes[0], sizes[1], sparse)
    outer = b[:long, :count].flatten(1).to(weights.dtype)
    inner = weights[:, :, None] * a[:, :, :short].to(weights.dtype) * gains[None]
    inner = inner.flatten(0, 1)
    scale = told["randlora_alpha"] / rank
    if short == cols:
        return outer * scale, inner
    return inner.mT * scale, outer.mT


@lru_cache(maxsize=1)
def _random_bases(key: int, rank: int, short: int, long: int, sparse: int) -> tuple[Tensor, Tensor]:
    """Return RandLoRA's shared A [r, 1, short] and B [long, count, r], drawn as PEFT draws them."""
    generator = torch.Generator().manual_seed(key)
    count = -(-short // rank)
    if sparse:
        edge = 1 / (2 * (math.sqrt(short) if sparse > 1 else 3))
        found = []
        for shape in ((rank, 1, short), (long, count, rank)):
            drawn = torch.rand(shape, generator=generator)
            signs = (drawn > 1 - edge).float() - (drawn < edge).float()
            found.append(signs / signs.std())
        return found[0], found[1]
    shapes = [(rank, 1, short), *[(long, 1, rank)] * count]
    bases = [
        torch.nn.init.kaiming_uniform_(
            torch.empty(shape, dtype=torch.bfloat16), a=math.sqrt(5), generator=generator
        )
        for shape in shapes
    ]
    a, b = bases[0], torch.cat(bases[1:], dim=1)
    return a / a.std(), b / b.std()


def vblora(t: Parts, told: Told) -> Factors:
    """Return B and A, each piece of which is a mixture of the top k vectors of a shared bank.

    Source:
        Li et al. 2024, arXiv:2405.15179 (VB-LoRA).
    """
    bank = t["vblora_vector_bank"]

    def mixed(side: str) -> Tensor:
        logits = t.get(f"vblora_logits_{side}")
        if logits is None:
            weights = t[f"vblora_logits_{side}_topk_weights"]
            indices = t[f"vblora_logits_{side}_topk_indices"].long()
            weights = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], dim=-1)
        else:
            top, indices = logits.topk(told["topk"], dim=-1)
            weights = torch.softmax(top, dim=-1)
        return (weights.unsqueeze(-1) * bank[indices]).sum(-2)

    a, b = mixed("A"), mixed("B")
    return b.transpose(1, 2).reshape(-1, b.shape[1]), a.reshape(len(a), -1)


def unilora(t: Parts, told: Told) -> Factors:  # noqa: ARG001 - as all
    """Return B and A, whose every entry is one of a shared vector's, scaled.

    Source:
        Li et al. 2025, arXiv:2506.00799 (Uni-LoRA).
    """
    vector = t["unilora_theta_d"]
    b, a = (
        vector[t[f"unilora_indices_{side}"].long()] * t[f"unilora_scales_{side}"] for side in "BA"
    )
    return b, a


def delora(t: Parts, told: Told) -> Factors:  # noqa: ARG001 - as all
    """Return B and A whose directions are brought to length 1, times lambda / r and W's columns.

    Source:
        Bini et al. 2025, arXiv:2503.18225 (DeLoRA).
    """
    a, b = t["delora_A"], t["delora_B"]
    sizes = a.norm(dim=1).clamp(min=1e-4) * b.norm(dim=0).clamp(min=1e-4)
    return b * (t["delora_lambda"] / len(a) / sizes), a * t["delora_w_norm"]


def gralora(t: Parts, told: Told) -> Factors:
    """Return block matrices: each of k x k blocks of W has factors of its own, of rank r / k.

    Source:
        Jung et al. 2025, arXiv:2505.20355 (GraLoRA); the hybrid part is a plain LoRA.
    """
    a, b = t["gralora_A"], t["gralora_B"]  # [k, in / k, r], [k, r, out / k]
    count, width, rank = a.shape
    each, height = rank // count, b.shape[2]
    left = a.new_zeros(count, height, count, count, each)  # out, by out block, in block and rank
    right = a.new_zeros(count, count, each, count, width)
    for out in range(count):
        left[out, :, out] = b[out].view(count, each, height).permute(2, 0, 1)
        for into in range(count):
            right[out, into, :, into] = a[into, :, out * each : (out + 1) * each].mT
    left = left.reshape(count * height, -1)
    right = right.reshape(-1, count * width)
    if "gralora_A_general.weight" in t:
        left = torch.cat([left, t["gralora_B_general.weight"]], dim=1)
        right = torch.cat([right, t["gralora_A_general.weight"]])
    scale = told["alpha"] / (rank + told["hybrid_r"])
    return left * scale, right


def miss(t: Parts, told: Told) -> Factors:
    """Return the block's transpose, and ones where an input is of the block's row.

    Source:
        Kang and Yin 2024, arXiv:2409.15371 (Bone, later MiSS): blocks of r columns of W each
        get the same [out, r] added.
    """
    (block,) = t.values()
    block = block.repeat(1, told["rows"] // block.shape[1])
    rank = len(block)
    where = torch.arange(told["cols"]) % rank
    right = (torch.arange(rank)[:, None] == where).to(block.dtype)
    return block.mT, right


def tinylora(t: Parts, told: Told) -> Factors:  # noqa: ARG001 - as all
    """Return B R and A, R a combination of stored matrices.

    Source:
        Morris et al. 2026 (TinyLoRA), after Balazy et al. 2024, arXiv:2405.17604 (LoRA-XS).
    """
    turn = torch.einsum("i,ijk->jk", t["tinylora_v.0"], t["tinylora_P"])
    return t["tinylora_B"] @ turn, t["tinylora_A"]
