"""Fused and stacked tensors of GGUF files become the matrices of their model."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import pytest
import torch
from torch import Tensor

from shards import opened
from spectra.matrices import views_of

HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}


def views(
    folder: Path, architecture: str, numbers: Mapping[str, int], tensors: Mapping[str, Tensor]
) -> dict[str, tuple[str, int | None, Tensor]]:
    """Write a GGUF file and return role, expert and values of every matrix in it."""
    writer = gguf.GGUFWriter(folder / "m.gguf", architecture)
    for key, number in numbers.items():
        writer.add_uint32(f"{architecture}.{key}", number)
    for name, values in tensors.items():
        writer.add_tensor(name, values.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = opened(folder / "m.gguf")
    found, _ = views_of(checkpoint)
    return {
        view.name: (view.role.kind, view.role.expert, view.of(checkpoint.read(view.entry)))
        for view in found
    }


def parts(found: Mapping[str, tuple[str, int | None, Tensor]]) -> dict[str, Tensor]:
    """Return the values by role."""
    return {role: values for role, _, values in found.values()}


# In a GGUF file all queries stand before all keys and values, whatever the model has.
FUSED: dict[str, tuple[str, dict[str, int], tuple[int, int]]] = {
    "phi3": ("phi3", HEADS, (2, 8)),
    "bloom": ("bloom", {"attention.head_count": 4}, (4, 8)),
    "gptneox": ("gptneox", {"attention.head_count": 4}, (4, 8)),
    "falcon": ("falcon", HEADS, (2, 8)),
    "falcon of one key head": ("falcon", {**HEADS, "attention.head_count_kv": 1}, (1, 8)),
    "gpt2": ("gpt2", {"attention.head_count": 4}, (4, 8)),
    "starcoder": ("starcoder", {**HEADS, "attention.head_count_kv": 1}, (1, 8)),
    "mpt": ("mpt", {"attention.head_count": 4}, (4, 8)),
    "not translated": ("qwen", HEADS, (2, 8)),
    "not known": ("unheard-of", HEADS, (2, 8)),
    "values of another size": (
        "unheard-of", {**HEADS, "attention.key_length": 8, "attention.value_length": 12}, (2, 12)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FUSED)
def test_fused_attention_is_cut_into_q_k_and_v(
    tmp_path: Path, case: str, generator: torch.Generator
) -> None:
    architecture, numbers, (key_heads, value_size) = FUSED[case]
    sizes = {"attn.q": 32, "attn.k": key_heads * 8, "attn.v": key_heads * value_size}
    expected = {role: torch.randn(rows, 16, generator=generator) for role, rows in sizes.items()}
    fused = torch.cat(list(expected.values()))
    found = parts(views(tmp_path, architecture, numbers, {"blk.1.attn_qkv.weight": fused}))
    assert found.keys() == expected.keys()
    for role, values in expected.items():
        assert torch.equal(found[role], values)


def test_a_delta_net_is_cut_by_its_own_heads(tmp_path: Path, generator: torch.Generator) -> None:
    numbers = {**HEADS, "ssm.group_count": 2, "ssm.time_step_rank": 2, "ssm.inner_size": 24,
               "ssm.state_size": 4}  # fmt: skip
    q, k, v = (torch.randn(rows, 16, generator=generator) for rows in (8, 8, 24))
    tensors = {"blk.1.attn_qkv.weight": torch.cat([q, k, v])}
    found = parts(views(tmp_path, "qwen3next", numbers, tensors))
    assert torch.equal(found["attn.q"], q)
    assert torch.equal(found["attn.k"], k)
    assert torch.equal(found["attn.v"], v)


def test_a_gate_in_front_of_up_is_cut_off(tmp_path: Path, generator: torch.Generator) -> None:
    gate, up = torch.randn(24, 16, generator=generator), torch.randn(24, 16, generator=generator)
    for architecture in ("phi3", "glm4"):
        tensors = {"blk.0.ffn_up.weight": torch.cat([gate, up])}
        found = parts(views(tmp_path, architecture, HEADS, tensors))
        assert torch.equal(found["mlp.gate"], gate)
        assert torch.equal(found["mlp.up"], up)


@pytest.mark.parametrize("architecture", ["qwen3moe", "unheard-of"])
def test_stacked_experts_become_one_matrix_each(
    tmp_path: Path, architecture: str, generator: torch.Generator
) -> None:
    stack = torch.randn(3, 8, 16, generator=generator)
    tensors = {f"blk.0.ffn_{part}_exps.weight": stack + i for i, part in
               enumerate(("gate", "up", "down"))}  # fmt: skip
    found = views(tmp_path, architecture, HEADS, tensors).values()
    assert len(found) == 9
    for role, expert, values in found:
        assert expert is not None
        part = ("mlp.gate", "mlp.up", "mlp.down").index(role)
        assert torch.equal(values, stack[expert] + part)


def test_stacked_gate_and_up_are_cut_apart(tmp_path: Path, generator: torch.Generator) -> None:
    stack = torch.randn(3, 8, 16, generator=generator)
    tensors = {"blk.0.ffn_gate_up_exps.weight": stack}
    found = list(views(tmp_path, "qwen3moe", HEADS, tensors).values())
    assert [(role, expert) for role, expert, _ in found] == [
        (role, expert) for expert in range(3) for role in ("mlp.gate", "mlp.up")
    ]
    assert torch.equal(found[3][2], stack[1, 4:])


@pytest.mark.parametrize("architecture", ["deepseek2", "unheard-of"])
def test_keys_and_values_expanded_from_a_latent_have_their_roles(
    tmp_path: Path, architecture: str, generator: torch.Generator
) -> None:
    keys = torch.randn(4, 12, 16, generator=generator)  # heads, size, latent
    values = torch.randn(4, 8, 16, generator=generator)
    tensors = {"blk.0.attn_k_b.weight": keys.mT, "blk.0.attn_v_b.weight": values}
    found = parts(views(tmp_path, architecture, HEADS, tensors))
    assert torch.equal(found["attn.k"], keys.flatten(0, 1))
    assert torch.equal(found["attn.v"], values.flatten(0, 1))
