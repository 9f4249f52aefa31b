"""Weights that a method makes of the base's: turned by orthogonal matrices, or scaled by entries.

Each function takes W [rows, cols] in float64, rows = outputs, a module's stored tensors by PEFT's
names, and what its settings say, and returns W'. A convolution's kernel is flattened behind its
outputs.

Source:
    `merge` and `get_delta_weight` of PEFT 0.21, method by method; the papers are named at each.
"""

from jaxtyping import Float

from spectra.checkpoint.adapter.updates.products import Parts, Told
from spectra.deferred import Tensor, torch

Weight = Float[Tensor, "rows cols"]


def _skew(vectors: Tensor, size: int) -> Float[Tensor, "blocks size size"]:
    """Return skew-symmetric matrices of what lies above their diagonals."""
    found = vectors.new_zeros(len(vectors), size, size)
    rows, cols = torch.triu_indices(size, size, 1)
    found[:, rows, cols] = vectors
    return found - found.mT


def _cayley(skew: Tensor) -> Tensor:
    """Return (I - Q) (I + Q)^-1, orthogonal where Q is skew-symmetric."""
    one = torch.eye(skew.shape[-1], dtype=skew.dtype)
    found: Tensor = torch.linalg.solve(one + skew, (one - skew).expand_as(skew), left=False)
    return found


def _neumann(skew: Tensor, terms: int) -> Tensor:
    """Return the Cayley transform's series to so many terms, which PEFT takes for it."""
    found = torch.eye(skew.shape[-1], dtype=skew.dtype).repeat(len(skew), 1, 1)
    if terms < 2:
        return found
    found += 2 * skew
    if terms < 3:
        return found
    power = skew @ skew
    found += 2 * power
    for _ in range(3, terms - 1):
        power = power @ skew
        found += 2 * power
    return found + power @ skew


def oft(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return W R^T, R of orthogonal blocks on the inputs.

    Source:
        Qiu et al. 2023, arXiv:2306.07280 (OFT); Qiu et al. 2025, arXiv:2506.19847 (OFTv2).
    """
    turn = oft_turn(t, told)
    blocks = weight.unflatten(1, (-1, turn.shape[-1]))
    return torch.einsum("orc,rck->ork", blocks, turn.expand(blocks.shape[1], -1, -1)).flatten(1)


def oft_turn(t: Parts, told: Told) -> Float[Tensor, "blocks size size"]:
    """Return R^T block by block, or one block for all, in float64."""
    (vectors,) = (values.double() for values in t.values())
    count = vectors.shape[1]
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    skew = _skew(vectors, size)
    if told["coft"]:
        most = told["eps"] / len(skew) ** 0.5
        norms = torch.linalg.vector_norm(skew, dim=(1, 2), keepdim=True)
        skew = torch.where(norms <= most, skew, skew * (most / norms))
    terms = told["num_cayley_neumann_terms"] if told["use_cayley_neumann"] else None
    turn = _cayley(skew) if terms is None else _neumann(skew, terms)
    return turn.mT if "oft_R.weight" in t else turn  # of an embedding's features PEFT has R itself


def boft(weight: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return diag(s) W R^T, R a product of butterflies of orthogonal blocks.

    Source:
        Liu et al. 2024, arXiv:2311.06243 (BOFT).
    """
    stored = t["boft_R"].double()  # [factors, blocks, b, b]
    factors, blocks, size, _ = stored.shape
    turns = _cayley(0.5 * (stored - stored.mT))
    found = weight.mT
    for index in range(factors):
        order = _butterfly(weight.shape[1], blocks >> index, size // 2, factors - 1)
        inside = torch.empty_like(order)
        inside[order] = torch.arange(len(order))
        part = found[inside].unflatten(0, (blocks, size))
        found = torch.einsum("bij,bjo->bio", turns[index], part).flatten(0, 1)[order]
    return t["boft_s"].double().flatten()[:, None] * found.mT


def _butterfly(length: int, blocks: int, base: int, factors: int) -> Tensor:
    """Return the order of inputs that one factor of BOFT mixes."""
    order = torch.arange(length)
    if factors == 0:
        return order
    pieces = order.view(blocks, -1, base)
    return torch.cat([pieces[:, 0::2], pieces[:, 1::2]], dim=1).flatten()


def hra(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return W times a chain of Householder reflections of the inputs.

    Source:
        Yuan et al. 2024, arXiv:2405.17484 (HRA).
    """
    mirrors = t["hra_u"].double()
    mirrors = torch.linalg.qr(mirrors).Q if told["apply_GS"] else mirrors / mirrors.norm(dim=0)
    found = weight
    for mirror in mirrors.mT:
        found = found - 2 * torch.outer(found @ mirror, mirror)
    return found


def ia3(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return W with its outputs, or in feed-forward modules its inputs, scaled.

    Source:
        Liu et al. 2022, arXiv:2205.05638 ((IA)^3).
    """
    gains = t["ia3_l"].double().flatten()
    if not told["feedforward"]:
        return weight * gains[:, None]
    return weight * gains.repeat_interleave(weight.shape[1] // len(gains))


def road(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return R W, R turning and scaling pairs of outputs.

    Source:
        Liao et al. 2024, arXiv:2409.00119 (RoAd).
    """
    same, other = halves({key: one.double() for key, one in t.items()}, told)
    half = told["group_size"] // 2
    first, second = weight.view(-1, 2, half, weight.shape[1]).unbind(1)
    turned = torch.stack([-second, first], dim=1).reshape(weight.shape)
    return same[:, None] * weight + other[:, None] * turned


def halves(t: Parts, told: Told) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return what RoAd multiplies outputs with, and what their partners in each pair."""
    theta, alpha, half = t["road_theta"], t["road_alpha"], told["group_size"] // 2
    variant = told["variant"]
    if variant == "road_1":
        theta, alpha = (one.view(-1, 1, half).expand(-1, 2, -1).flatten() for one in (theta, alpha))
    if variant == "road_4":
        theta, alpha = (one.view(-1, 2, 2 * half) for one in (theta, alpha))
        same = alpha[:, 0].flatten() * theta[:, 0].flatten().cos()
        return same, alpha[:, 1].flatten() * theta[:, 1].flatten().sin()
    return alpha * theta.cos(), alpha * theta.sin()


def hira(weight: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return W + W * (B A), entry by entry.

    Source:
        Huang et al. 2025, HiRA, ICLR 2025.
    """
    if "hira_embedding_A" in t:
        gains = (t["hira_embedding_B"].double() @ t["hira_embedding_A"].double()).mT
    else:
        gains = t["hira_B"].flatten(1).double() @ t["hira_A"].flatten(1).double()
    return weight + weight * gains


def deft(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return W without what lies in the span of P, and Q R in its place.

    Source:
        DEFT and PaRa (arXiv:2410.19355, the latter), as PEFT has them.
    """
    outer = inner = t["deft_P"].double()
    if told["decomposition_method"] == "qr":
        outer = inner = torch.linalg.qr(t["deft_P"].float()).Q.double()
    else:
        inner = inner.relu()
    injected = -(inner.mT @ weight)
    if not told["para"]:
        rank = outer.shape[1]
        injected = injected + t["deft_R"].double() * (told["alpha"] / rank if told["alpha"] else 1)
    found: Tensor = weight + outer @ injected
    return found


def bat(weight: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return W with every r x r block X of it turned into X + X B + B, B that of its rows.

    Source:
        Kang and Yin 2024, arXiv:2409.15371 (Bone's "bat").
    """
    (block,) = (values.double() for values in t.values())  # [rows / r, r, r]
    size = block.shape[-1]
    parts = weight.unflatten(0, (-1, size)).unflatten(2, (-1, size)).permute(2, 0, 1, 3)
    added = parts @ block + block
    found: Tensor = weight + added.permute(1, 2, 0, 3).reshape(weight.shape)
    return found


def osf(weight: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return the leading part of W as it was, and in place of the rest what it became.

    Source:
        Nayak et al. 2025, arXiv:2504.07097 (OSF).
    """
    u, s, v = (t[f"osf_svd_params.{side}_low"].double() for side in "USV")
    kept = min(weight.shape) - len(s)
    left, sigma, right = torch.linalg.svd(weight, full_matrices=False)
    found: Tensor = (left[:, :kept] * sigma[:kept]) @ right[:kept] + (u * s) @ v
    return found


def glora(weight: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return W + W * A + B, entry by entry, A and B products, columns or numbers.

    Source:
        Chavan et al. 2023, arXiv:2306.07967 (GLoRA).
    """
    gain, shift = (path(t, f"glora_{side}") for side in "AB")
    return weight + weight * gain + shift


def glora_bias(bias: Weight, t: Parts, told: Told) -> Weight:  # noqa: ARG001 - as all
    """Return b + b * D + E + W C, of a bias as one column; W is that of its layer."""
    gain, shift = (path(t, f"glora_{side}").reshape(-1, 1) for side in "DE")
    inputs = path(t, "glora_C")
    added = t["weight"].double().flatten(1) @ inputs.reshape(-1, 1) if inputs.numel() > 1 else 0.0
    return bias + bias * gain + shift + added


def path(t: Parts, name: str) -> Tensor:
    """Return what a path of GLoRA gives: a product, a column, a number, or zero."""
    if f"{name}.Xd" in t:
        return t[f"{name}.Xd"].double() @ t[f"{name}.Xu"].double()
    found = t.get(f"{name}.X")
    return torch.zeros(1) if found is None else found.double()


ACTIVATIONS = {
    "relu": "relu", "silu": "silu", "swish": "silu", "gelu": "gelu", "tanh": "tanh",
    "sigmoid": "sigmoid", "leaky_relu": "leaky_relu",
}  # fmt: skip
"""Names of functions of torch.nn.functional."""


def peanut(weight: Weight, t: Parts, told: Told) -> Weight:
    """Return W + f(W), f a small network over the columns of W.

    Source:
        Zhong et al. 2024, arXiv:2410.01870 (PEANuT).
    """
    act = getattr(torch.nn.functional, ACTIVATIONS[told["act_fn"]])
    state = act(weight.mT @ t["peanut_A.weight"].double().mT)
    kept = []
    depth = int(told["depth"])
    for index in range(depth):
        kept.append(state)
        state = act(state @ t[f"peanut_encoders.{index}.weight"].double().mT)
    for index in range(depth):
        state = act(state @ t[f"peanut_decoders.{index}.weight"].double().mT) + kept.pop()
    found: Tensor = weight + told["scaling"] * (state @ t["peanut_B.weight"].double().mT).mT
    return found
