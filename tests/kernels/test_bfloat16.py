"""Gram matrices of what bfloat16 holds against float64, and everything as before without them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from spectra.kernels import bfloat16
from spectra.kernels.bfloat16 import add_lower_gram
from spectra.kernels.inverse import lower_gram
from spectra.kernels.linear_map import linear_map
from spectra.work.threads import threads_within

told = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
has_it = "cpu family\t: 25\n" in told and " avx512_bf16 " in told
needs_it = pytest.mark.skipif(not has_it, reason="this processor is no Zen 4")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Look anew for what multiplies, before a test and after it."""
    bfloat16._multiply.cache_clear()
    yield
    bfloat16._multiply.cache_clear()


@needs_it
@pytest.mark.parametrize("shape", [(700, 900), (1001, 613), (9, 6000), (1024, 512)], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_it_adds_the_lower_half(
    shape: tuple[int, int], turned: bool, generator: torch.Generator
) -> None:
    block = 2.0**-9 * torch.randn(*shape, generator=generator).bfloat16().float()
    block = block.mT.contiguous().mT if turned else block
    gram = torch.randn(shape[1], shape[1], generator=generator)
    exact, found = gram.double() + block.double().mT @ block.double(), []
    for threads in 1, 3:
        with threads_within(threads):
            found.append(gram.clone())
            assert add_lower_gram(found[-1], block)
    assert_close(found[0].tril().double(), exact.tril(), rtol=1e-5, atol=1e-6)
    assert torch.equal(*(one.tril() for one in found))


def test_what_bfloat16_does_not_hold_stays(generator: torch.Generator) -> None:
    block = torch.randn(700, 900, generator=generator).bfloat16().float()
    block[699, 0] += 1e-4
    gram = torch.zeros(900, 900)
    assert not add_lower_gram(gram, block)
    assert not add_lower_gram(gram, torch.randn(700, 900, generator=generator))
    assert not add_lower_gram(gram.double(), block.bfloat16().double())
    assert not gram.any()


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_where_onednn_is_kept_from_instructions_it_is_not_asked(
    name: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, gram = (
        torch.randn(700, 900, generator=generator).bfloat16().float(),
        torch.zeros(900, 900),
    )
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not add_lower_gram(gram, block)  # and the process goes on
    monkeypatch.setenv(name, "AVX2")
    assert bfloat16._multiply() is None


def test_a_system_that_forbids_to_write_code_is_no_matter() -> None:
    """As services may ask of systemd: MemoryDenyWriteExecute."""
    lines = (
        "import ctypes",
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): raise SystemExit(77)",
        "import torch",
        "from spectra.kernels.inverse import lower_gram",
        "from spectra.kernels.linear_map import linear_map",
        "torch.set_num_threads(1)",
        "of = linear_map(torch.ones(1500, 700).bfloat16())",
        "assert float(lower_gram(of, torch.float32)[-1, 0]) == 1500",
        "assert float(of.gram_matmat(torch.ones(700, 70).double())[0, 0]) == 1500 * 700",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True,
                           check=False)  # fmt: skip
    if ended.returncode == 77:
        pytest.skip("this system cannot forbid it")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("broken", ["nothing", "no name", "no library", "number", "processor"])
def test_the_gram_matrix_is_right_with_it_and_without(
    broken: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "no name":
        monkeypatch.setattr(bfloat16, "NAME", "brgemm")
    if broken == "no library":
        monkeypatch.setattr(bfloat16, "LIBRARY", bfloat16.LIBRARY / "none")
    if broken == "number":
        monkeypatch.setattr(bfloat16, "_add", lambda _, gram, brief: gram.sub_(1.0))
    if broken == "processor":
        monkeypatch.setattr(bfloat16, "processor", lambda: "cpu family\t: 26\n")
    assert (bfloat16._multiply() is not None) == (has_it and broken == "nothing")
    matrix = torch.randn(1900, 700, generator=generator).bfloat16()
    of = linear_map(matrix)
    exact = (matrix.double() / of.scale).mT @ (matrix.double() / of.scale)
    found = lower_gram(of, torch.float32).double().tril()
    assert float((found - exact.tril()).norm()) <= 2e-6 * float(exact.norm())
