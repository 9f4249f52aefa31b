"""Devices by their names: one, or several GPUs."""

import pytest
import torch

from spectra.errors import UsageError
from spectra.work.device import chosen_device


@pytest.fixture(autouse=True)
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize("word", ["cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "cuda:1,cuda:0"])
def test_what_is_there_is_taken_as_named(word: str) -> None:
    assert chosen_device(word) == word
    assert chosen_device("auto") == "cuda"
    assert chosen_device(torch.device("cuda", 1)) == "cuda:1"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("cuda:0,cuda:2", "device='cuda:2' is not there: torch sees 2 CUDA devices."),
        ("cuda:0,cuda:0", "'cuda:0,cuda:0' names cuda:0 twice. Name each once."),
        ("cuda:1,cuda:01", "names cuda:1 twice"),
        ("cpu,cuda:0", "'cpu,cuda:0' has cpu among several. Expected GPUs by number alone"),
        ("cuda:0,auto", "has auto among several"),
        ("cuda,cuda:1", "has cuda among several"),
        ("cuda:0,gpu", "'gpu' is not known. Did you mean 'cuda'?"),
        ("cuda:0,", "'' is not known."),
        ("cuda:0, cuda:1", "' cuda:1' is not known. Did you mean 'cuda:0'?"),
        ("cuda:²", "is not known"),
    ],
)
def test_what_is_not_is_refused(word: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        chosen_device(word)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
