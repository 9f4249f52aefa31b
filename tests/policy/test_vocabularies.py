"""Vocabularies as models have them raise nothing; collapsed ones are found."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import spectra
from spectra.numbers import percent

TABLE = "model.embed_tokens.weight"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def told(folder: Path, **tensors: Tensor) -> list[tuple[str, str, str]]:
    """Rule, matrix and message of all that a check finds."""
    held = {name.replace("__", "."): value.contiguous() for name, value in tensors.items()}
    save_file(held, folder / "model.safetensors")
    found = spectra.check(folder).summary["findings"]
    return [(one["rule"], one["matrix"], one["message"]) for one in found]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mean", [0.0, 1.5, 2.0])
def test_a_healthy_vocabulary_raises_nothing(
    tmp_path: Path, mean: float, dtype: torch.dtype
) -> None:
    table = 0.02 * (normal(50_000, 64) + mean * normal(64, seed=1))
    assert told(tmp_path, model__embed_tokens__weight=table.to(dtype)) == []


def test_a_very_long_one_raises_nothing(tmp_path: Path) -> None:
    """LAPACK's threshold of rank is 3 % of the largest singular value here."""
    table = (0.02 * normal(256_000, 64) + 0.03 * normal(64, seed=1)).bfloat16()
    assert told(tmp_path, model__embed_tokens__weight=table) == []


def test_an_untied_head_raises_nothing(tmp_path: Path) -> None:
    table = (0.02 * (normal(50_000, 64) + 2.0 * normal(64, seed=1))).bfloat16()
    head = (0.3 * normal(50_000, 64, seed=2)).bfloat16()
    assert told(tmp_path, model__embed_tokens__weight=table, lm_head__weight=head) == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_a_collapsed_vocabulary_is_found(tmp_path: Path, mean: float, dtype: torch.dtype) -> None:
    made = normal(20_000, 8) @ normal(8, 96, seed=1) / 8**0.5
    table = 0.02 * (made + mean * normal(96, seed=2))
    found = told(tmp_path, model__embed_tokens__weight=table.to(dtype))
    share = 9 / 96 if mean else 8 / 96
    assert found == [
        ("SPC301", TABLE, f"rank above rounding {percent(share)} < 50 % allowed"),
    ]


def test_a_collapsed_vocabulary_in_float32_that_was_rounded_before(tmp_path: Path) -> None:
    made = normal(20_000, 8) @ normal(8, 96, seed=1)
    found = told(tmp_path, model__embed_tokens__weight=made.bfloat16().float())
    assert [one[:2] for one in found] == [("SPC301", TABLE)]


def sines(rows: int, cols: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5."""
    rates = torch.logspace(0, -4, cols // 2, dtype=torch.float64)
    angles = torch.arange(rows)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_positions_that_are_sines_raise_nothing(tmp_path: Path, dtype: torch.dtype) -> None:
    """As the encoders of Whisper, Marian and Pegasus have them."""
    table = sines(512, 512).to(dtype)
    assert told(tmp_path, model__encoder__embed_positions__weight=table) == []
    words = told(tmp_path, model__encoder__embed_tokens__weight=table)
    assert words[0][0] == "SPC301"


def test_what_modules_keep_beside_their_weights_is_not_judged(tmp_path: Path) -> None:
    assert (
        told(
            tmp_path,
            layers__0__mlp__up_proj__weight=normal(16, 16),
            layers__0__mlp__up_proj__weight_integer=torch.zeros(16, 16),
            rope__freqs_cos=sines(512, 64).cos(),
        )
        == []
    )
